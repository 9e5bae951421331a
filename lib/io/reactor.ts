/**
 * The reactor contract: the only place in the data plane that waits.
 *
 * One reactor belongs to one worker thread. Its owner runs one loop: `turn()` submits what was prepared, waits,
 * and hands every completion to the handler that prepared it. Nothing is allocated per operation.
 *
 * Addresses are plain numbers (user-space addresses are below 2^47, so a JavaScript number holds them exactly).
 * `file` is a raw descriptor, or, when `fixed` was registered, the value returned by `registerFile` (negative numbers
 * mark fixed files: `-1 - index`).
 *
 * Results are what the kernel gives: bytes or a count when >= 0, else a negative errno.
 *
 * @module
 */

/** Receives completions of the operations it prepared. */
export interface CompletionHandler {
  /**
   * @param token the number given when the operation was prepared
   * @param result bytes or count when >= 0, negative errno otherwise
   * @param flags completion flags of the kernel (multishot "more", buffer id)
   */
  onCompletion(token: number, result: number, flags: number): void;
}

/** What the data plane may ask of the machine. `owner` is the value `register()` returned. `token` is any u32. */
export interface Reactor {
  /** Makes `handler` known. Returns its owner id (u16). */
  register(handler: CompletionHandler): number;

  /** Reads into registered pool memory at `address`. `offset` is bytes in the file. */
  read(owner: number, token: number, file: number, address: number, lengthBytes: number, offset: number): void;
  /** Writes from registered pool memory. `durable` waits for stable storage (RWF_DSYNC). */
  write(
    owner: number,
    token: number,
    file: number,
    address: number,
    lengthBytes: number,
    offset: number,
    durable: boolean,
  ): void;
  /** fdatasync. */
  flush(owner: number, token: number, file: number): void;
  /** fallocate with `mode` (PUNCH_HOLE|KEEP_SIZE = 3, ZERO_RANGE|KEEP_SIZE = 17). */
  allocate(owner: number, token: number, file: number, mode: number, offset: number, lengthBytes: number): void;

  /** Accepts one connection; the result is the new descriptor. */
  accept(owner: number, token: number, socket: number): void;
  /** Connects; `address`/`lengthBytes` is a sockaddr in memory that stays valid until completion. */
  connect(owner: number, token: number, socket: number, address: number, lengthBytes: number): void;
  /** Receives up to `lengthBytes`; with `waitAll` only completes when all of it is there (or the peer is gone). */
  receive(owner: number, token: number, socket: number, address: number, lengthBytes: number, waitAll: boolean): void;
  /** Sends a msghdr at `messageAddress` (prepared by the caller, memory valid until completion). */
  sendMessage(owner: number, token: number, socket: number, messageAddress: number, waitAll: boolean): void;
  /** Completes once `file` can be read, or is broken. */
  pollReadable(owner: number, token: number, file: number): void;
  /** shutdown(2), both directions. */
  shutdown(owner: number, token: number, socket: number): void;
  /** close(2). */
  close(owner: number, token: number, file: number): void;
  /** Asks the kernel to cancel what `owner` prepared with `token`; the cancelled operation completes with -ECANCELED. */
  cancel(owner: number, token: number): void;

  /** Registers a descriptor as a fixed file. Returns a negative number to use in its place, or `file` when full. */
  registerFile(file: number): number;
  /** Takes back a registration; the descriptor stays open. */
  unregisterFile(file: number): void;

  /** Milliseconds of the monotonic clock as of the start of this turn. */
  readonly nowMs: number;
  /** Reads the monotonic clock now (dear: once per need, not per I/O). Milliseconds with fractions. */
  clockMs(): number;
  /** Lets other threads run that wait for this processor; returns at once when there is none. */
  letOthersRun(): void;
  /**
   * Submits what was prepared, waits until something completes, `deadlineMs` is reached or `wake()` is called, and
   * dispatches all completions. `deadlineMs` is on the monotonic clock; Infinity waits for ever, 0 does not wait.
   * With `gatherUs` it is not woken for the first completion, but when there are `enough` of them or that time is over
   * (see `GatherTime`), where the kernel can. Returns the number of completions dispatched.
   */
  turn(deadlineMs: number, gatherUs?: number, enough?: number): number;
  /** Operations prepared or in flight. */
  readonly inFlightCount: number;
  /** Frees the ring. Only when nothing is in flight. */
  dispose(): void;
}
