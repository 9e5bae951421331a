/**
 * The reactor on io_uring: everything a data-plane worker waits for completes here.
 *
 * The loop of a worker:
 *
 * ```ts
 * const pool = new SlabBufferPool({ totalBytes: 64 << 20 });
 * const reactor = UringReactor.create({ entries: 1024, pool });
 * const mailbox = new MailboxReceiver(port, reactor, (message) => node.handleControl(message));
 * while (!node.stopped) {
 *   // One io_uring_enter: submits all that was prepared, waits, then every completion goes to its handler. The handlers
 *   // feed the core and prepare operations; nothing is submitted before the next turn.
 *   turns.turn(worker.deadlineMs); // `Turns`: reactor.turn(), as often as it takes
 *   worker.afterTurn();            // timers; frames queued for one connection leave as one send
 * }
 * ```
 *
 * The loop never returns to the event loop of its isolate and never awaits. Messages from other isolates come through a
 * `Mailbox`, whose eventfd read is an operation like any other.
 *
 * Promises: a completion is delivered exactly once, never from within the call that prepared it; an interrupted wait is
 * taken up again; when the submission ring is full it is submitted at once; when the completion ring overflows the
 * kernel keeps what did not fit and nothing is lost. It does not promise an order between operations.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import { letOthersRun, monotonicMs, newEventfd, wakeEventfd } from "../../ffi/libc/process.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";
import { CompletionFlag, CQE_WORDS, EnterFlag, EntryFlag, NEEDED_OPCODES, Opcode } from "../../ffi/uring/constants.ts";
import { type UringKernel, UringRing, UringUnavailable } from "../../ffi/uring/ring.ts";
import { EnterFailures } from "../../ffi/uring/enter_failures.ts";
import type { CompletionHandler, Reactor } from "./reactor.ts";
import { type RegisterableMemory, RegisteredMemory } from "./registered_memory.ts";

/** What {@link UringReactor.create} needs. */
export interface UringReactorOptions {
  /** Operations that fit the submission ring between two submissions; a power of two up to 32768. Default 1024. */
  readonly entries?: number;
  /** Completions that fit the ring. Default 4 times `entries`, at least 4096. More is no error, only slower. */
  readonly completionEntries?: number;
  /** The pool whose memory becomes registered buffers. Without it every buffer is an ordinary one. */
  readonly pool?: RegisterableMemory;
  /** Places in the table of fixed files. Default 1024; 0 for none. */
  readonly fixedFiles?: number;
  /** The kernel's set-up calls; tests play older kernels with it. */
  readonly kernel?: UringKernel;
}

/** Owner of operations that the reactor prepares for itself. */
const SELF = 0;
const TOKEN_WAKE = 1;
const TOKEN_IGNORED = 2;

const FSYNC_DATASYNC = 1;
const RWF_DSYNC = 2;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_RDWR = 2;
const POLLIN = 1;
const TWO_32 = 4294967296;
const MAX_OWNERS = 65536;

/** {@link Reactor} on io_uring. */
export class UringReactor implements Reactor {
  nowMs: number;
  inFlightCount = 0;
  /** Whether the pool's memory is registered; when not, `fixedBuffersRefusal` says why. */
  readonly hasFixedBuffers: boolean;
  readonly fixedBuffersRefusal: string;

  readonly #ring: UringRing;
  readonly #failures = new EnterFailures();
  readonly #sqes: Int32Array;
  readonly #words: Int32Array;
  readonly #sqMask: number;
  readonly #sqEntries: number;
  readonly #cqMask: number;
  /** Where the next entry goes; counts on for ever as a u32, as the ring's own index does. */
  #sqTail = 0;
  #toSubmit = 0;
  #hasCommands = false;
  #cqHead = 0;
  readonly #handlers: (CompletionHandler | null)[] = [];
  readonly #freeOwners: number[] = [];
  readonly #memory: RegisteredMemory;
  readonly #freeFiles: number[] = [];
  readonly #fixedFileCount: number;
  #dispatching = false;
  #disposed = false;
  /** Completions taken out of the ring early, to make room: groups of 4 words. Empty but for extraordinary moments. */
  readonly #backlog: number[] = [];
  readonly #wakeDescriptor: number;
  readonly #wakeAddress: number;
  #wakeIsArmed = false;

  /** Throws {@link UringUnavailable} when this machine has no usable io_uring; the message says what to do. */
  static create(options: UringReactorOptions = {}): UringReactor {
    const entries = options.entries ?? 1024;
    const completionEntries = options.completionEntries ?? Math.max(4 * entries, 4096);
    const ring = UringRing.open(entries, completionEntries, options.kernel);
    const lacking = NEEDED_OPCODES.filter((name) => !ring.supports(Opcode[name]));
    if (lacking.length > 0) {
      ring.close();
      throw new UringUnavailable(
        "too-old",
        `This kernel's io_uring lacks ${lacking.join(", ")}. brmr needs Linux 5.11 or newer: update the kernel`,
      );
    }
    return new UringReactor(ring, options);
  }

  private constructor(ring: UringRing, options: UringReactorOptions) {
    this.#ring = ring;
    this.#sqes = ring.sqes;
    this.#words = ring.words;
    this.#sqEntries = ring.sqEntries;
    this.#sqMask = ring.sqEntries - 1;
    this.#cqMask = ring.cqEntries - 1;
    this.nowMs = monotonicMs();
    this.#handlers.push({ onCompletion: (token, result) => this.#onOwnCompletion(token, result) });

    this.#memory = new RegisteredMemory(ring, options.pool);
    this.fixedBuffersRefusal = this.#memory.refusal;
    this.hasFixedBuffers = this.#memory.refusal === "";

    const wanted = options.fixedFiles ?? 1024;
    this.#fixedFileCount = wanted > 0 && ring.registerEmptyFiles(wanted) >= 0 ? wanted : 0;
    for (let i = this.#fixedFileCount - 1; i >= 0; i--) this.#freeFiles.push(i);

    this.#wakeDescriptor = newEventfd();
    if (this.#wakeDescriptor < 0) {
      ring.close();
      throw new UringUnavailable("failed", `Cannot make an eventfd: ${errnoName(this.#wakeDescriptor)}`);
    }
    // LIFETIME: the kernel writes the eventfd's counter here when the armed read completes; lives for the process.
    this.#wakeAddress = mapAnonymous(4096).address;
    this.#armWake();
  }

  /** Flags of io_uring_setup in force, for status and tests. */
  get setupFlags(): number {
    return this.#ring.setupFlags;
  }

  register(handler: CompletionHandler): number {
    const owner = this.#freeOwners.pop() ?? this.#handlers.length;
    assert(owner < MAX_OWNERS, "a reactor has at most 65535 handlers");
    this.#handlers[owner] = handler;
    return owner;
  }

  /** Forgets a handler. Nothing of it may be in flight. */
  unregister(owner: number): void {
    assert(owner !== SELF && this.#handlers[owner] != null, "only a registered handler is unregistered", owner);
    this.#handlers[owner] = null;
    this.#freeOwners.push(owner);
  }

  read(owner: number, token: number, file: number, address: number, lengthBytes: number, offset: number): void {
    const piece = this.#memory.bufferOf(address, lengthBytes);
    const at = this.#prepare(piece < 0 ? Opcode.READ : Opcode.READ_FIXED, 0, owner, token, file);
    this.#place(at, address, lengthBytes, offset, 0, piece < 0 ? 0 : piece);
  }

  write(
    owner: number,
    token: number,
    file: number,
    address: number,
    lengthBytes: number,
    offset: number,
    durable: boolean,
  ): void {
    const piece = this.#memory.bufferOf(address, lengthBytes);
    const at = this.#prepare(piece < 0 ? Opcode.WRITE : Opcode.WRITE_FIXED, 0, owner, token, file);
    this.#place(at, address, lengthBytes, offset, durable ? RWF_DSYNC : 0, piece < 0 ? 0 : piece);
  }

  flush(owner: number, token: number, file: number): void {
    this.#place(this.#prepare(Opcode.FSYNC, 0, owner, token, file), 0, 0, 0, FSYNC_DATASYNC, 0);
  }

  allocate(owner: number, token: number, file: number, mode: number, offset: number, lengthBytes: number): void {
    // The kernel takes the length where other operations have their address.
    this.#place(this.#prepare(Opcode.FALLOCATE, 0, owner, token, file), lengthBytes, mode, offset, 0, 0);
  }

  accept(owner: number, token: number, socket: number): void {
    this.#place(this.#prepare(Opcode.ACCEPT, 0, owner, token, socket), 0, 0, 0, SOCK_CLOEXEC, 0);
  }

  connect(owner: number, token: number, socket: number, address: number, lengthBytes: number): void {
    // The kernel takes the length of the sockaddr where other operations have their offset.
    this.#place(this.#prepare(Opcode.CONNECT, 0, owner, token, socket), address, 0, lengthBytes, 0, 0);
  }

  receive(
    owner: number,
    token: number,
    socket: number,
    address: number,
    lengthBytes: number,
    waitAll: boolean,
    pollFirst = false,
  ): void {
    const at = this.#prepare(Opcode.RECV, pollFirst ? this.#ring.pollFirst : 0, owner, token, socket);
    this.#place(at, address, lengthBytes, 0, waitAll ? MSG_WAITALL | MSG_NOSIGNAL : MSG_NOSIGNAL, 0);
  }

  /** send(2) of one piece of memory: cheaper than `sendMessage`. */
  send(owner: number, token: number, socket: number, address: number, lengthBytes: number, waitAll: boolean): void {
    const at = this.#prepare(Opcode.SEND, 0, owner, token, socket);
    this.#place(at, address, lengthBytes, 0, waitAll ? MSG_WAITALL | MSG_NOSIGNAL : MSG_NOSIGNAL, 0);
  }

  sendMessage(owner: number, token: number, socket: number, messageAddress: number, waitAll: boolean): void {
    const at = this.#prepare(Opcode.SENDMSG, 0, owner, token, socket);
    this.#place(at, messageAddress, 1, 0, waitAll ? MSG_WAITALL | MSG_NOSIGNAL : MSG_NOSIGNAL, 0);
  }

  /** A command of a device driver's own, with 16 bytes of argument: two words and an address. */
  command(owner: number, token: number, file: number, operation: number, a: number, b: number, address: number): void {
    const at = this.#prepare(Opcode.URING_CMD, 0, owner, token, file);
    this.#hasCommands = true;
    this.#place(at, 0, 0, operation >>> 0, 0, 0);
    this.#fillArgument(at, a, b, address);
  }

  pollReadable(owner: number, token: number, file: number): void {
    this.#place(this.#prepare(Opcode.POLL_ADD, 0, owner, token, file), 0, 0, 0, POLLIN, 0);
  }

  /** Registers further memory (at most 1 GiB). Returns its place, or -1 when it cannot be had: I/O works without. */
  registerMemory(address: number, lengthBytes: number): number {
    return this.#memory.add(address, lengthBytes);
  }

  /** Lets registered memory go. What is in flight keeps it until it ends. */
  unregisterMemory(place: number): void {
    if (this.#toSubmit > 0) this.#submitAll();
    this.#memory.remove(place);
  }

  shutdown(owner: number, token: number, socket: number): void {
    this.#place(this.#prepare(Opcode.SHUTDOWN, 0, owner, token, socket), 0, SHUT_RDWR, 0, 0, 0);
  }

  close(owner: number, token: number, file: number): void {
    assert(file >= 0, "only a raw descriptor is closed; unregister a fixed file first", file);
    this.#place(this.#prepare(Opcode.CLOSE, 0, owner, token, file), 0, 0, 0, 0, 0);
  }

  cancel(owner: number, token: number): void {
    // The entry to cancel is found by its user data, which the kernel takes where other operations have their address.
    const at = this.#prepare(Opcode.ASYNC_CANCEL, 0, SELF, TOKEN_IGNORED, 0);
    this.#place(at, (token >>> 0) + owner * TWO_32, 0, 0, 0, 0);
  }

  /** Completes with 0 in the next turn. */
  nop(owner: number, token: number): void {
    this.#place(this.#prepare(Opcode.NOP, 0, owner, token, 0), 0, 0, 0, 0, 0);
  }

  /** Completes with -ETIME after a time. `timespecAddress`: {i64 s, i64 ns}, in memory valid until the next turn. */
  delay(owner: number, token: number, timespecAddress: number): void {
    this.#place(this.#prepare(Opcode.TIMEOUT, 0, owner, token, 0), timespecAddress, 1, 0, 0, 0);
  }

  registerFile(file: number): number {
    assert(file >= 0, "a raw descriptor is registered", file);
    const index = this.#freeFiles.pop();
    if (index === undefined) return file;
    if (this.#ring.updateFile(index, file) < 0) {
      this.#freeFiles.push(index);
      return file;
    }
    return -1 - index;
  }

  unregisterFile(file: number): void {
    if (file >= 0) return; // the table was full when it was registered
    const index = -1 - file;
    assert(index < this.#fixedFileCount && !this.#freeFiles.includes(index), "a fixed file is registered", file);
    // An entry that was prepared and not yet submitted would find the place empty, or another file in it.
    if (this.#toSubmit > 0) this.#submitAll();
    const result = this.#ring.updateFile(index, -1);
    assert(result >= 0, "a fixed file can be taken back", errnoName(result));
    this.#freeFiles.push(index);
  }

  clockMs(): number {
    return monotonicMs();
  }

  letOthersRun(): void {
    letOthersRun();
  }

  /** Makes a waiting `turn` return. From this thread; others add to the eventfd {@link wakeDescriptor} (`wakeEventfd`). */
  wake(): void {
    const result = wakeEventfd(this.#wakeDescriptor);
    assert(result >= 0, "an eventfd can be written", errnoName(result));
  }

  get wakeDescriptor(): number {
    return this.#wakeDescriptor;
  }

  turn(deadlineMs: number, gatherUs = 0, enough = 1): number {
    assert(!this.#dispatching, "turn() is not called by a completion handler");
    const words = this.#words, ring = this.#ring;
    const tailIndex = ring.cqTailIndex;
    let waits = this.#backlog.length === 0 && Atomics.load(words, tailIndex) === this.#cqHead;
    for (;;) {
      let result: number;
      const submitting = this.#toSubmit;
      if (submitting > 0) Atomics.store(words, ring.sqTailIndex, this.#sqTail);
      if (!waits || deadlineMs === 0) {
        result = ring.enter(submitting, 0, EnterFlag.GETEVENTS);
      } else if (gatherUs > 0 && ring.canGather) {
        // Without a limit the kernel would give up when the gathering is over; a second is as good as for ever.
        const leftMs = Math.min(deadlineMs - monotonicMs(), 1000);
        result = leftMs > 0
          ? ring.enterFor(submitting, enough, EnterFlag.GETEVENTS, leftMs, gatherUs)
          : ring.enter(submitting, 0, EnterFlag.GETEVENTS);
      } else if (deadlineMs === Infinity) {
        result = ring.enter(submitting, 1, EnterFlag.GETEVENTS);
      } else {
        const leftMs = deadlineMs - monotonicMs();
        result = leftMs > 0
          ? ring.enterFor(submitting, 1, EnterFlag.GETEVENTS, leftMs)
          : ring.enter(submitting, 0, EnterFlag.GETEVENTS);
      }
      if (result >= 0) {
        this.#toSubmit -= result;
        // Interrupted after submitting, or submitted in part: the kernel did not wait. With completions there is no need.
        if (this.#toSubmit === 0 || result === 0) break;
      } else if (result === -Errno.ETIME) {
        break;
      } else if (result === -Errno.EAGAIN || result === -Errno.EBUSY) {
        // No memory for requests, or completions that overflowed must be taken first: dispatch, the next turn goes on.
        break;
      } else {
        assert(this.#failures.mayRepeat(result), "io_uring_enter fails only for reasons that pass", errnoName(result));
      }
      if (Atomics.load(words, tailIndex) !== this.#cqHead) waits = false;
    }
    this.#failures.clear();
    this.nowMs = monotonicMs();
    return this.#dispatch();
  }

  dispose(): void {
    assert(this.inFlightCount === 0, "a reactor is disposed of when nothing is in flight", this.inFlightCount);
    if (this.#disposed) return;
    this.#disposed = true;
    // The rings stay mapped, and a mapping keeps the ring alive; so what it holds is given back one by one.
    this.cancel(SELF, TOKEN_WAKE);
    while (this.#wakeIsArmed) this.turn(Infinity);
    this.#ring.unregisterAll();
    this.#ring.close();
    closeDescriptor(this.#wakeDescriptor);
  }

  #dispatch(): number {
    const words = this.#words;
    const ring = this.#ring;
    let count = 0;
    this.#dispatching = true;
    try {
      if (this.#backlog.length > 0) count = this.#dispatchBacklog();
      // The tail as of now: what completes inline meanwhile is for the next turn, so that a turn ends.
      const tail = Atomics.load(words, ring.cqTailIndex);
      // A handler whose submission had to put completions aside ends the round: those come first, in the next turn.
      while (this.#cqHead !== tail && this.#backlog.length === 0) {
        const at = ring.cqesIndex + (this.#cqHead & this.#cqMask) * CQE_WORDS;
        const token = words[at] >>> 0;
        const owner = words[at + 1];
        const result = words[at + 2];
        const flags = words[at + 3];
        this.#cqHead = (this.#cqHead + 1) | 0;
        this.#deliver(owner, token, result, flags);
        count++;
      }
    } finally {
      Atomics.store(words, ring.cqHeadIndex, this.#cqHead);
      this.#dispatching = false;
    }
    return count;
  }

  #deliver(owner: number, token: number, result: number, flags: number): void {
    if (owner !== SELF && (flags & CompletionFlag.MORE) === 0) this.inFlightCount--;
    const handler = this.#handlers[owner];
    if (handler == null) assert(false, "a completion has an owner", owner, token, result);
    else handler.onCompletion(token, result, flags);
  }

  #dispatchBacklog(): number {
    const backlog = this.#backlog.splice(0);
    for (let i = 0; i < backlog.length; i += CQE_WORDS) {
      this.#deliver(backlog[i + 1], backlog[i] >>> 0, backlog[i + 2], backlog[i + 3]);
    }
    return backlog.length / CQE_WORDS;
  }

  /** Submits what was prepared, without dispatching. */
  #submitAll(): void {
    const ring = this.#ring;
    Atomics.store(this.#words, ring.sqTailIndex, this.#sqTail);
    while (this.#toSubmit > 0) {
      const result = ring.enter(this.#toSubmit, 0, 0);
      if (result > 0) {
        this.#toSubmit -= result;
      } else if (result === -Errno.EBUSY || result === -Errno.EAGAIN || result === 0) {
        // The kernel wants completions to be taken first. Handlers must not run here, so they are put aside.
        this.#putCompletionsAside();
        ring.enter(0, 0, EnterFlag.GETEVENTS);
      } else {
        assert(this.#failures.mayRepeat(result), "io_uring_enter fails only for reasons that pass", errnoName(result));
      }
    }
    this.#failures.clear();
  }

  #putCompletionsAside(): void {
    const words = this.#words;
    const ring = this.#ring;
    const tail = Atomics.load(words, ring.cqTailIndex);
    while (this.#cqHead !== tail) {
      const at = ring.cqesIndex + (this.#cqHead & this.#cqMask) * CQE_WORDS;
      this.#backlog.push(words[at], words[at + 1], words[at + 2], words[at + 3]);
      this.#cqHead = (this.#cqHead + 1) | 0;
    }
    Atomics.store(words, ring.cqHeadIndex, this.#cqHead);
  }

  /** Takes the next submission entry and fills its head. Returns the index of its first word. */
  #prepare(opcode: number, ioPriority: number, owner: number, token: number, file: number): number {
    if (this.#toSubmit === this.#sqEntries) this.#submitAll();
    const at = (this.#sqTail & this.#sqMask) << 4;
    this.#sqTail = (this.#sqTail + 1) | 0;
    this.#toSubmit++;
    if (owner !== SELF) this.inFlightCount++;
    const sqes = this.#sqes;
    if (file < 0 && -1 - file < this.#fixedFileCount) {
      sqes[at] = opcode | (EntryFlag.FIXED_FILE << 8) | (ioPriority << 16);
      sqes[at + 1] = -1 - file;
    } else {
      sqes[at] = opcode | (ioPriority << 16);
      sqes[at + 1] = file;
    }
    sqes[at + 8] = token;
    sqes[at + 9] = owner;
    return at;
  }

  #fillArgument(at: number, a: number, b: number, address: number): void {
    const words = this.#sqes;
    words[at + 12] = a, words[at + 13] = b, words[at + 14] = address | 0, words[at + 15] = (address / TWO_32) | 0;
  }

  /** Fills the rest of an entry. Words 11 to 15 are zero from the start; only commands leave something there. */
  #place(at: number, address: number, length: number, offset: number, opFlags: number, bufferIndex: number): void {
    const sqes = this.#sqes;
    sqes[at + 2] = offset | 0;
    sqes[at + 3] = (offset / TWO_32) | 0;
    sqes[at + 4] = address | 0;
    sqes[at + 5] = (address / TWO_32) | 0;
    sqes[at + 6] = length;
    sqes[at + 7] = opFlags;
    sqes[at + 10] = bufferIndex < 0 ? 0 : bufferIndex; // no registered buffer: the field must be zero
    if (this.#hasCommands) this.#fillArgument(at, 0, 0, 0);
  }

  #armWake(): void {
    const at = this.#prepare(Opcode.READ, 0, SELF, TOKEN_WAKE, this.#wakeDescriptor);
    this.#place(at, this.#wakeAddress, 8, 0, 0, 0);
    this.#wakeIsArmed = true;
  }

  #onOwnCompletion(token: number, result: number): void {
    if (token !== TOKEN_WAKE) return; // the answer of a cancel: the cancelled operation tells its own owner
    assert(result === 8 || result === -Errno.ECANCELED, "an eventfd gives 8 bytes", errnoName(result));
    this.#wakeIsArmed = false;
    if (!this.#disposed) this.#armWake();
  }
}
