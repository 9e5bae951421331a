/**
 * The URI under which an NBD client finds an export.
 *
 * Source: `doc/uri.md` of https://github.com/NetworkBlockDevice/nbd.
 *
 * @module
 */

import type { SocketAddress } from "../io/socket_address.ts";

/**
 * `nbd+unix:///vol1?socket=/run/vol1.sock` or `nbd://127.0.0.1:10809/vol1`. `boundText` is where the socket really
 * listens (with the port the kernel chose).
 */
export function nbdUri(address: SocketAddress, boundText: string, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if (address.path === "") return `nbd://${boundText}/${name}`;
  return `nbd+unix:///${name}?socket=${encodeURIComponent(address.path).replaceAll("%2F", "/")}`;
}
