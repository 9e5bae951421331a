/**
 * Opens an NBD server on a listening socket: a unix socket, or TCP on loopback.
 *
 * A unix socket path that a dead process left behind is taken over; one on which somebody listens is refused. NBD has no
 * authentication here, so an address that other machines can reach is refused unless it is asked for expressly.
 *
 * @module
 */

import type { BufferPool } from "../io/buffer_pool.ts";
import { ListenSocket } from "../io/listen_socket.ts";
import { AddressError, parseSocketAddress } from "../io/socket_address.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { UringStreamSocket } from "../io/uring_stream_socket.ts";
import type { FrontendHost } from "./frontend.ts";
import type { NbdLimits } from "./nbd_admission.ts";
import { NbdServer } from "./nbd_server.ts";
import { nbdUri } from "./nbd_uri.ts";

/** What {@link openNbdServer} needs. */
export interface NbdListenOptions {
  readonly reactor: UringReactor;
  readonly pool: BufferPool;
  readonly host: FrontendHost;
  /** As `parseSocketAddress` reads it: "/run/vol1.sock", "127.0.0.1:10809"; port 0 lets the kernel choose. */
  readonly address: string;
  readonly limits?: Partial<NbdLimits>;
  /** Allows an address other machines can reach: anyone who reaches it reads and writes the pool. */
  readonly insecure?: boolean;
}

/**
 * Listens and serves. Throws `AddressError` (not an address, or not local and not `insecure`) or `ListenFailed` (taken, no
 * permission, …); both say what to do.
 */
export function openNbdServer(options: NbdListenOptions): NbdServer {
  const { reactor, pool, host } = options;
  const address = parseSocketAddress(options.address);
  if (!address.isLocal && options.insecure !== true) {
    throw new AddressError(
      `Other machines can reach "${address.text}", and NBD asks nobody who they are. Use a unix socket or 127.0.0.1, ` +
        `or allow it expressly with --insecure`,
    );
  }
  const socket = ListenSocket.open(options.address);
  const uri = nbdUri(address, socket.boundAddress, host.geometry.name);
  const server = new NbdServer({ host, pool, clock: reactor, uri, limits: options.limits });
  // A connection too many is closed; nothing depends on how that went.
  const closer = reactor.register({ onCompletion() {} });
  socket.start(reactor, {
    onAccepted(descriptor: number): void {
      const taken = server.addConnection((protocol) =>
        new UringStreamSocket({ reactor, socket: descriptor, protocol })
      );
      if (!taken) reactor.close(closer, 0, descriptor);
    },
  });
  server.addSource(socket);
  return server;
}
