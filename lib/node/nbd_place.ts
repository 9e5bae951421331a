/**
 * A place where a pool is offered over NBD: a listening socket that feeds an NBD server.
 *
 * @module
 */

import { closeDescriptor } from "../../ffi/libc/file.ts";
import type { Frontend, FrontendHost } from "../frontend/frontend.ts";
import { NbdServer } from "../frontend/nbd_server.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import { ListenSocket } from "../io/listen_socket.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { UringStreamSocket } from "../io/uring_stream_socket.ts";

/**
 * Offers `host`'s pool at `place`: the path of a unix socket, or "tcp://host:port".
 * Throws `ListenFailed` when it cannot be listened on.
 */
export function openNbd(place: string, host: FrontendHost, pool: BufferPool, reactor: UringReactor): Frontend {
  const isTcp = place.startsWith("tcp://");
  const socket = ListenSocket.open(isTcp ? place.slice("tcp://".length) : `unix:${place}`);
  const name = encodeURIComponent(host.geometry.name);
  const uri = isTcp ? `nbd://${socket.boundAddress}/${name}` : `nbd+unix:///${name}?socket=${encodePath(place)}`;
  const server = new NbdServer({ host, pool, clock: reactor, uri });
  server.addSource(socket);
  socket.start(reactor, {
    onAccepted: (descriptor) => {
      const isTaken = server.addConnection((protocol) =>
        new UringStreamSocket({ reactor, socket: descriptor, protocol })
      );
      if (!isTaken) closeDescriptor(descriptor);
    },
  });
  return server;
}

/** A path inside a URI's query: slashes stay readable. */
function encodePath(path: string): string {
  return encodeURIComponent(path).replaceAll("%2F", "/");
}
