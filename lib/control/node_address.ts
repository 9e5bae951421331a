/**
 * Addresses as people write them: of storage nodes ("127.0.0.1:7701", "[::1]:7701", also with "tcp://" in front), and of
 * legs ("127.0.0.1:7701:/data/a.img"). What comes out is canonical, so that two spellings of one address compare equal.
 *
 * @module
 */

import { ControlError } from "./control_api.ts";

/** Where a storage node listens unless told otherwise. */
export const DEFAULT_NODE_PORT = 7701;

/** A host and a port. `host` has no brackets. */
export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

/** A place for a leg: a path on a storage node. */
export interface LegPlace {
  /** Canonical address of the storage node. */
  readonly address: string;
  /** Absolute path there. */
  readonly path: string;
}

const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const IPV6 = /^[0-9A-Fa-f:.%a-z]*:[0-9A-Fa-f:.%a-z]*$/;

/**
 * Reads `text` as host and port.
 * @throws {ControlError} "bad-request" when it is none.
 */
export function parseNodeAddress(text: string): NodeAddress {
  const bare = text.startsWith("tcp://") ? text.slice("tcp://".length).replace(/\/$/, "") : text;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(bare);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = match === null ? 0 : Number(match[3]);
  const isHostSound = match?.[1] !== undefined ? IPV6.test(host) : HOST.test(host);
  if (match === null || !isHostSound || port < 1 || port > 65535) {
    throw new ControlError(
      "bad-request",
      `"${text}" is not the address of a storage node. Write HOST:PORT, e.g. 127.0.0.1:7701 or [::1]:7701.`,
    );
  }
  return { host: host.toLowerCase(), port };
}

/** The one spelling of an address: "host:port", or "[host]:port" for IPv6. */
export function formatNodeAddress(address: NodeAddress): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** `text` in its one spelling. Throws as {@link parseNodeAddress} does. */
export function canonicalNodeAddress(text: string): string {
  return formatNodeAddress(parseNodeAddress(text));
}

/**
 * Reads "HOST:PORT:/PATH". The host is an IP address (or "localhost"): it goes into the pool's leg table, by which nodes and
 * clients find each other for years, and that must neither depend on a name server nor mean another machine elsewhere.
 * @throws {ControlError} "bad-request" when it is none.
 */
export function parseLegPlace(text: string): LegPlace {
  const match = /^((?:\[[^\]]+\]|[^:[\]]+):\d{1,5}):(\/.+)$/.exec(text);
  if (match === null) {
    throw new ControlError(
      "bad-request",
      `"${text}" is not the place of a leg. Write HOST:PORT:/ABSOLUTE/PATH, e.g. 127.0.0.1:7701:/data/a.img.`,
    );
  }
  const { host, port } = parseNodeAddress(match[1]);
  const numeric = host === "localhost" ? "127.0.0.1" : host;
  if (!isIpAddress(numeric)) {
    throw new ControlError(
      "bad-request",
      `"${text}": a leg's storage node is given by its IP address, not by a name. Write e.g. 10.0.0.1:7701:/data/a.img.`,
    );
  }
  if (numeric === "0.0.0.0" || /^[0:]+$/.test(numeric)) {
    throw new ControlError(
      "bad-request",
      `"${text}": ${host} means any address. Give the one at which others reach it.`,
    );
  }
  return { address: formatNodeAddress({ host: numeric, port }), path: match[2] };
}

/** Dotted IPv4 in full, or IPv6 without a zone: a zone means something on one machine only. */
function isIpAddress(host: string): boolean {
  if (host.includes(":")) return !host.includes("%");
  const octets = host.split(".");
  return octets.length === 4 && octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) <= 255);
}

/** Whether `address` ("host:port", "rdma://" optional) stands for every address of a machine: to listen on, not to be reached at. */
export function isWildcard(address: string): boolean {
  return /^(?:[a-z]+:\/\/)?(?:0\.0\.0\.0|\[[0:]+\]):\d+$/.test(address);
}

/** Whether only this machine can reach a listener on `host`. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase();
  return name === "localhost" || name === "::1" || /^127(\.\d{1,3}){3}$/.test(name);
}
