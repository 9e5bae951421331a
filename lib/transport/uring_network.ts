/**
 * Streams for the TCP transport from real sockets, on an io_uring reactor.
 *
 * @module
 */

import { ConnectAttempt } from "../io/connect_attempt.ts";
import { ListenSocket } from "../io/listen_socket.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { UringStreamSocket } from "../io/uring_stream_socket.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import type { StreamProtocol } from "../io/stream_socket.ts";
import type {
  AcceptStream,
  FrameStream,
  PendingConnect,
  StreamConnector,
  StreamListener,
  StreamNetwork,
} from "./stream_network.ts";

/** See the module's description. Addresses as `parseSocketAddress` reads them ("127.0.0.1:7701", "[::1]:7701"). */
export class UringNetwork implements StreamNetwork {
  readonly #reactor: UringReactor;

  constructor(reactor: UringReactor) {
    this.#reactor = reactor;
  }

  listen(address: string, accept: AcceptStream): StreamListener {
    const listener = ListenSocket.open(address);
    listener.start(this.#reactor, {
      onAccepted: (socket, peerAddress) => {
        let isTaken = false;
        accept(peerAddress, (protocol) => {
          isTaken = true;
          return this.#stream(socket, protocol);
        });
        if (!isTaken) closeDescriptor(socket);
      },
    });
    return listener;
  }

  connect(address: string, connector: StreamConnector): PendingConnect {
    return new ConnectAttempt(this.#reactor, address, {
      onConnected: (socket) => connector.onConnected(this.#stream(socket, connector.protocol)),
      onConnectFailed: (reason) => connector.onConnectFailed(reason),
    });
  }

  #stream(socket: number, protocol: StreamProtocol): FrameStream {
    return new UringStreamSocket({ reactor: this.#reactor, socket, protocol });
  }
}
