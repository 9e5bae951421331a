/**
 * Streams that take the short way when both ends are on one machine: a unix socket, with the connecting end's buffer memory
 * shared, so that its payloads need not travel (`payload_sharing.ts`). Otherwise TCP; `way` of the stream says why.
 *
 * Who listens on a TCP address also listens on the unix socket of the same name in the abstract namespace. That name can be
 * reached from where the address is bound, and from nowhere else: the same network namespace of the same machine. Nothing is
 * looked up or compared. Both ends ask the kernel for the user at the other end (SO_PEERCRED) and share memory only with the
 * same user or the superuser.
 *
 * @module
 */

import { ConnectAttempt } from "../io/connect_attempt.ts";
import { ListenSocket } from "../io/listen_socket.ts";
import type { SlabBufferPool } from "../io/slab_buffer_pool.ts";
import { abstractAddress, parseSocketAddress } from "../io/socket_address.ts";
import type { StreamProtocol } from "../io/stream_socket.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { UringStreamSocket } from "../io/uring_stream_socket.ts";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import { mapForKernel, unmapForKernel } from "../../ffi/libc/memory.ts";
import {
  effectiveUser,
  newPipe,
  peerUserOf,
  receiveDescriptors,
  sealedSizeOf,
  sendDescriptors,
} from "../../ffi/libc/shared_memory.ts";
import { decodeGreeting, encodeGreeting, GREETING_BYTES, LocalOutcome, outcomeText } from "./local_greeting.ts";
import {
  BorrowedMemory,
  type BorrowingPool,
  LentMemory,
  MOST_REGION_BYTES,
  type PayloadSharing,
} from "./payload_sharing.ts";
import type {
  AcceptStream,
  PendingConnect,
  StreamConnector,
  StreamListener,
  StreamNetwork,
  StreamWay,
} from "./stream_network.ts";
import type { UringNetwork } from "./uring_network.ts";

/** What a {@link LocalNetwork} shares. */
export interface LocalNetworkOptions {
  readonly reactor: UringReactor;
  /** Where streams come from that are not local. */
  readonly network: UringNetwork;
  /** Memory to share with those that are connected to; null to connect by TCP only. */
  readonly lend: SlabBufferPool | null;
  /** Takes up the memory of those that connect; null to listen on TCP only. */
  readonly borrow: BorrowingPool | null;
  /** Hears what a person may want to know. */
  readonly report: (text: string) => void;
}

const TOKEN_POLL = 1;
/** Connections that have not greeted yet; more are turned away. All are of our own user. */
const MOST_GREETING = 64;

const SHARED: StreamWay = { transport: "shared-memory" };

/** A stream that knows which way it takes. */
class LocalStream extends UringStreamSocket {
  readonly sharing: PayloadSharing | null;
  readonly way: StreamWay;

  constructor(
    reactor: UringReactor,
    socket: number,
    protocol: StreamProtocol,
    sharing: PayloadSharing | null,
    way: StreamWay,
  ) {
    super({ reactor, socket, protocol });
    this.sharing = sharing;
    this.way = way;
  }
}

/** See the module's description. */
export class LocalNetwork implements StreamNetwork {
  readonly #options: LocalNetworkOptions;
  #greetingCount = 0;

  constructor(options: LocalNetworkOptions) {
    this.#options = options;
  }

  listen(address: string, accept: AcceptStream): StreamListener {
    const listener = this.#options.network.listen(address, accept);
    const { borrow, reactor, report } = this.#options;
    if (borrow === null) return listener;
    try {
      const local = ListenSocket.open(abstractAddress(localName(listener.boundAddress)));
      local.start(reactor, { onAccepted: (socket) => this.#greet(socket, borrow, accept) });
      return {
        boundAddress: listener.boundAddress,
        close() {
          listener.close();
          local.close();
        },
      };
    } catch (error) {
      report(`Clients of this machine use TCP: ${error instanceof Error ? error.message : error}`);
      return listener;
    }
  }

  connect(address: string, connector: StreamConnector): PendingConnect {
    const { lend, reactor, network } = this.#options;
    if (lend === null) return network.connect(address, connector);
    return new LocalAttempt(reactor, lend, address, connector);
  }

  #greet(socket: number, pool: BorrowingPool, accept: AcceptStream): void {
    const { reactor } = this.#options;
    if (!isOurUser(peerUserOf(socket)) || this.#greetingCount >= MOST_GREETING) {
      closeDescriptor(socket);
      return;
    }
    this.#greetingCount++;
    const owner = reactor.register({
      onCompletion: () => {
        this.#greetingCount--;
        reactor.unregister(owner);
        this.#greeted(socket, pool, accept);
      },
    });
    reactor.pollReadable(owner, TOKEN_POLL, socket);
  }

  #greeted(socket: number, pool: BorrowingPool, accept: AcceptStream): void {
    const { reactor } = this.#options;
    const received = receiveDescriptors(socket, GREETING_BYTES);
    if (typeof received === "number") {
      closeDescriptor(socket);
      return;
    }
    const greeting = decodeGreeting(received.bytes);
    const [memory, lifeline] = received.descriptors;
    let taken: BorrowedMemory | number = LocalOutcome.VERSION;
    if (greeting !== null && received.descriptors.length === 2) {
      taken = takeUp(reactor, pool, greeting.sizeBytes, memory, lifeline);
    }
    for (const descriptor of received.descriptors) {
      if (descriptor !== lifeline || typeof taken === "number") closeDescriptor(descriptor);
    }
    const outcome = typeof taken === "number" ? taken : LocalOutcome.TAKEN;
    const answered = sendDescriptors(socket, encodeGreeting(0, outcome), []) === GREETING_BYTES;
    if (typeof taken === "number" || !answered) {
      if (typeof taken !== "number") taken.streamClosed();
      closeDescriptor(socket);
      return;
    }
    const sharing = taken;
    let isTaken = false;
    accept("unix:", (protocol) => {
      isTaken = true;
      return new LocalStream(reactor, socket, protocol, sharing, SHARED);
    });
    if (isTaken) return;
    sharing.streamClosed();
    closeDescriptor(socket);
  }
}

/** Maps what a peer shares. A number says why not; then descriptors are still the caller's. The mapping needs no descriptor. */
function takeUp(
  reactor: UringReactor,
  pool: BorrowingPool,
  sizeBytes: number,
  memory: number,
  lifeline: number,
): BorrowedMemory | number {
  const isPlausible = sizeBytes > 0 && sizeBytes % 4096 === 0 && sizeBytes <= MOST_REGION_BYTES;
  if (!isPlausible || sealedSizeOf(memory) !== sizeBytes) return LocalOutcome.MEMORY;
  const address = mapForKernel(memory, sizeBytes);
  if (address < 0) return LocalOutcome.MEMORY;
  const taken = BorrowedMemory.open(pool, reactor, address, sizeBytes, lifeline);
  if (taken !== null) return taken;
  unmapForKernel(address, sizeBytes);
  return LocalOutcome.NO_ROOM;
}

/** One attempt to connect: the local way first, then TCP. */
class LocalAttempt implements PendingConnect {
  readonly #reactor: UringReactor;
  readonly #pool: SlabBufferPool;
  readonly #address: string;
  readonly #connector: StreamConnector;
  #attempt: ConnectAttempt | null;
  #owner = -1;
  #socket = -1;
  #lifeline = -1;
  #isCancelled = false;

  /** Throws `AddressError`. */
  constructor(reactor: UringReactor, pool: SlabBufferPool, address: string, connector: StreamConnector) {
    this.#reactor = reactor;
    this.#pool = pool;
    this.#address = address;
    this.#connector = connector;
    const name = localName(address);
    if (pool.descriptor < 0) {
      this.#attempt = this.#connectTcp("this kernel gives no memory that can be shared");
      return;
    }
    this.#attempt = new ConnectAttempt(reactor, abstractAddress(name), {
      onConnected: (socket) => this.#greet(socket),
      onConnectFailed: (result) =>
        this.#fallBack(
          result === -Errno.ECONNREFUSED ? "no node of this machine listens there" : errnoName(result),
          result,
        ),
    });
  }

  cancel(): void {
    this.#isCancelled = true;
    if (this.#owner >= 0) this.#reactor.cancel(this.#owner, TOKEN_POLL);
    else this.#attempt?.cancel();
  }

  #greet(socket: number): void {
    this.#socket = socket;
    const user = peerUserOf(socket);
    const pipe = isOurUser(user) ? newPipe() : `the node runs as user ${user}`;
    if (!Array.isArray(pipe)) return this.#refused(typeof pipe === "string" ? pipe : errnoName(pipe));
    this.#lifeline = pipe[0];
    const greeting = encodeGreeting(this.#pool.totalBytes);
    const sent = sendDescriptors(socket, greeting, [this.#pool.descriptor, pipe[1]]);
    closeDescriptor(pipe[1]);
    if (sent !== GREETING_BYTES) return this.#refused(sent < 0 ? errnoName(sent) : "the greeting was not taken");
    this.#attempt = null;
    this.#owner = this.#reactor.register(this);
    this.#reactor.pollReadable(this.#owner, TOKEN_POLL, socket);
  }

  /** From the reactor: the answer has come, or the end. */
  onCompletion(_token: number, result: number, _flags: number): void {
    this.#reactor.unregister(this.#owner);
    this.#owner = -1;
    if (result < 0) return this.#refused(errnoName(result));
    const received = receiveDescriptors(this.#socket, GREETING_BYTES);
    if (typeof received === "number") return this.#refused(errnoName(received));
    for (const descriptor of received.descriptors) closeDescriptor(descriptor);
    const answer = decodeGreeting(received.bytes);
    if (answer === null) return this.#refused(outcomeText(LocalOutcome.VERSION));
    if (answer.outcome !== LocalOutcome.TAKEN) return this.#refused(outcomeText(answer.outcome));
    if (this.#isCancelled) return this.#refused("cancelled");
    const sharing = new LentMemory(this.#pool, this.#reactor, this.#lifeline);
    const { protocol } = this.#connector;
    this.#connector.onConnected(new LocalStream(this.#reactor, this.#socket, protocol, sharing, SHARED));
  }

  #refused(why: string): void {
    closeDescriptor(this.#socket);
    if (this.#lifeline >= 0) closeDescriptor(this.#lifeline);
    this.#fallBack(why, -Errno.ECANCELED);
  }

  #fallBack(why: string, result: number): void {
    if (this.#isCancelled) this.#connector.onConnectFailed(result === 0 ? -Errno.ECANCELED : result);
    else this.#attempt = this.#connectTcp(why);
  }

  #connectTcp(why: string): ConnectAttempt {
    return new ConnectAttempt(this.#reactor, this.#address, {
      onConnected: (socket) =>
        this.#connector.onConnected(
          new LocalStream(this.#reactor, socket, this.#connector.protocol, null, { transport: "tcp", reason: why }),
        ),
      onConnectFailed: (reason) => this.#connector.onConnectFailed(reason),
    });
  }
}

function localName(address: string): string {
  return `brmr/${parseSocketAddress(address).text}`;
}

function isOurUser(user: number): boolean {
  return user === 0 || user === effectiveUser();
}
