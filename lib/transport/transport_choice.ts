/**
 * TCP and RDMA behind one transport: which of the two a connection takes.
 *
 * An address says it: "rdma://10.0.0.1:7701", "tcp://10.0.0.1:7701". One that does not, as in a pool's leg table, is tried
 * by RDMA first, at the same host and port, when this node has RDMA; what cannot be reached so is reached by TCP. A node that
 * listens on both therefore needs no second address in any table. The policy can exclude either.
 *
 * @module
 */

import type { Message } from "../wire/message.ts";
import type { LinkDescription } from "./rdma/link_description.ts";
import type { RdmaTransport } from "./rdma/rdma_transport.ts";
import type { StreamWay } from "./stream_network.ts";
import type { ConnectionStats, Transport, TransportHandler } from "./transport.ts";

/** What connections may take. */
export type TransportPolicy = "auto" | "tcp" | "rdma";

const TCP = 0;
const RDMA = 1;
/** Addresses at which TCP led where RDMA had failed are not tried by RDMA for this long, so that legs come back quickly. */
const RDMA_PAUSE_MS = 30_000;

interface Route {
  transport: number;
  /** Number there. */
  inner: number;
  readonly address: string;
  /** TCP is tried when this attempt fails. */
  mayFallBack: boolean;
  /** RDMA has failed in this attempt. */
  hasFallenBack: boolean;
}

/** See the module's description. `attach` completes it. */
export class TransportChoice implements Transport {
  readonly #policy: TransportPolicy;
  readonly #clock: { readonly nowMs: number };
  readonly #handler: TransportHandler;
  readonly #inner: (Transport | null)[] = [null, null];
  /** By transport, by inner number: our number, -1 for none. */
  readonly #outer: number[][] = [[], []];
  readonly #routes: (Route | null)[] = [];
  readonly #free: number[] = [];
  readonly #listeners: { transport: number; inner: number }[] = [];
  readonly #rdmaFailedMs = new Map<string, number>();
  /** Attempts that fell back, whose TCP connects begin with the next flush. */
  readonly #fallen: Route[] = [];

  /** @param handler of everything, once transports are attached */
  constructor(policy: TransportPolicy, handler: TransportHandler, clock: { readonly nowMs: number }) {
    this.#policy = policy;
    this.#handler = handler;
    this.#clock = clock;
  }

  /** The handler that the TCP transport is to be made with. */
  get tcpHandler(): TransportHandler {
    return this.#handlerOf(TCP);
  }

  /** The handler that the RDMA transport is to be made with. */
  get rdmaHandler(): TransportHandler {
    return this.#handlerOf(RDMA);
  }

  /** Completes it. `rdma` is null where there is none. */
  attach(tcp: Transport, rdma: RdmaTransport | null): void {
    this.#inner[TCP] = tcp;
    this.#inner[RDMA] = rdma;
  }

  listen(address: string): { listener: number; boundAddress: string } {
    const transport = address.startsWith("rdma://") ? RDMA : TCP;
    const inner = this.#inner[transport];
    if (inner === null) throw new Error("there is no RDMA here; see the log of the start");
    const bound = inner.listen(address.replace(/^rdma:\/\//, ""));
    this.#listeners.push({ transport, inner: bound.listener });
    return {
      listener: this.#listeners.length - 1,
      boundAddress: transport === RDMA ? `rdma://${bound.boundAddress}` : bound.boundAddress,
    };
  }

  connect(address: string): number {
    const outer = this.#free.pop() ?? this.#routes.length;
    const bare = address.replace(/^(tcp|rdma):\/\//, "");
    const named = address.startsWith("rdma://") ? RDMA : address.startsWith("tcp://") ? TCP : -1;
    const failedMs = this.#rdmaFailedMs.get(bare);
    const isRecent = failedMs !== undefined && this.#clock.nowMs - failedMs < RDMA_PAUSE_MS;
    const isAuto = named < 0 && this.#policy === "auto";
    const wantsRdma = named === RDMA || (named < 0 && this.#policy === "rdma") || (isAuto && !isRecent);
    const transport = wantsRdma && this.#inner[RDMA] !== null ? RDMA : TCP;
    const route = {
      transport,
      inner: -1,
      address: bare,
      mayFallBack: isAuto && transport === RDMA,
      hasFallenBack: false,
    };
    this.#routes[outer] = route;
    this.#begin(route, outer);
    return outer;
  }

  send(connection: number, message: Message, slot: number, token: number): boolean {
    const route = this.#routes[connection] ?? null;
    return route !== null && route.inner >= 0 && this.#inner[route.transport]!.send(route.inner, message, slot, token);
  }

  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean {
    const route = this.#routes[connection] ?? null;
    return route !== null && route.inner >= 0 && this.#inner[route.transport]!.sendBytes(route.inner, message, payload);
  }

  flushSends(): void {
    this.#inner[RDMA]?.flushSends();
    for (let route = this.#fallen.shift(); route !== undefined; route = this.#fallen.shift()) {
      this.#begin(route, this.#routes.indexOf(route));
    }
    this.#inner[TCP]!.flushSends();
  }

  resume(): void {
    this.#inner[TCP]!.resume();
    this.#inner[RDMA]?.resume();
  }

  close(connection: number): void {
    const route = this.#routes[connection] ?? null;
    if (route === null) return;
    route.mayFallBack = false;
    if (route.inner < 0) this.#begin(route, connection); // it has fallen back: the close is that of the new attempt
    const at = this.#fallen.indexOf(route);
    if (at >= 0) this.#fallen.splice(at, 1);
    this.#inner[route.transport]!.close(route.inner);
  }

  lastReceivedMs(connection: number): number {
    const route = this.#routes[connection] ?? null;
    return route === null || route.inner < 0 ? 0 : this.#inner[route.transport]!.lastReceivedMs(route.inner);
  }

  stats(connection: number): ConnectionStats {
    const route = this.#routes[connection] ?? null;
    if (route === null || route.inner < 0) {
      return { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
    }
    return this.#inner[route.transport]!.stats(route.inner);
  }

  queuedBytes(connection: number): number {
    const route = this.#routes[connection] ?? null;
    return route === null || route.inner < 0 ? 0 : this.#inner[route.transport]!.queuedBytes(route.inner);
  }

  /** Which way a connection goes: null over TCP. */
  describe(connection: number): LinkDescription | null {
    const route = this.#routes[connection] ?? null;
    if (route === null || route.transport !== RDMA || route.inner < 0) return null;
    return (this.#inner[RDMA] as RdmaTransport).describe(route.inner);
  }

  way(connection: number): StreamWay | null {
    const route = this.#routes[connection] ?? null;
    if (route === null || route.transport !== TCP || route.inner < 0) return null;
    return this.#inner[TCP]!.way?.(route.inner) ?? null;
  }

  sumsPayloads(connection: number): boolean {
    const route = this.#routes[connection] ?? null;
    if (route === null || route.inner < 0) return true;
    return this.#inner[route.transport]!.sumsPayloads?.(route.inner) ?? true;
  }

  #begin(route: Route, outer: number): void {
    route.inner = this.#inner[route.transport]!.connect(route.address);
    this.#outer[route.transport][route.inner] = outer;
  }

  #handlerOf(transport: number): TransportHandler {
    const handler = this.#handler;
    const outer = this.#outer[transport];
    return {
      onAccepted: (inner, listener, peerAddress) => {
        const number = this.#free.pop() ?? this.#routes.length;
        this.#routes[number] = { transport, inner, address: peerAddress, mayFallBack: false, hasFallenBack: false };
        outer[inner] = number;
        const index = this.#listeners.findIndex((each) => each.transport === transport && each.inner === listener);
        handler.onAccepted(number, index, peerAddress);
      },
      onConnected: (inner) => {
        const route = this.#routes[outer[inner]]!;
        route.mayFallBack = false;
        // Somebody is there, and has no RDMA for us. Where TCP fails as well, nobody was: a node that is being started.
        if (route.hasFallenBack) this.#rdmaFailedMs.set(route.address, this.#clock.nowMs);
        handler.onConnected(outer[inner]);
      },
      placePayload: (inner, message, landedSlot) => handler.placePayload(outer[inner], message, landedSlot),
      onMessage: (inner, message, slot) => handler.onMessage(outer[inner], message, slot),
      onSent: (inner, token) => handler.onSent(outer[inner], token),
      onClosed: (inner, reason) => {
        const number = outer[inner];
        const route = this.#routes[number]!;
        outer[inner] = -1;
        if (route.mayFallBack) {
          route.mayFallBack = false;
          route.hasFallenBack = true;
          route.transport = TCP;
          route.inner = -1;
          this.#fallen.push(route);
          return;
        }
        this.#routes[number] = null;
        handler.onClosed(number, reason);
        this.#free.push(number);
      },
    };
  }
}
