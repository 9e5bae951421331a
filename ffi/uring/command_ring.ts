/**
 * A small ring for commands to device drivers whose arguments need submission entries of 128 bytes: one at a time.
 *
 * A command may take as long as the device likes, so nobody waits in here: an eventfd tells when it is done.
 *
 * @module
 */

import { assert } from "../../lib/base/assert.ts";
import { errnoName } from "../libc/errno.ts";
import { closeDescriptor } from "../libc/file.ts";
import { mapDescriptor } from "../libc/memory.ts";
import { CQE_WORDS, EnterFlag, Opcode, RegisterOp, SetupFlag, SQE_WORDS, SyscallNumber } from "./constants.ts";
import { errno, libc } from "../libc/library.ts";
import { EnterFailures } from "./enter_failures.ts";
import { runningKernel } from "./ring.ts";

/** Word of an entry at which a driver's own argument begins. */
export const COMMAND_WORD = 12;
const ENTRIES = 4;
const OFFSET_ENTRIES = 0x10000000;

/** A ring with wide entries. It belongs to the thread that made it. */
export class CommandRing {
  readonly #descriptor: number;
  readonly #failures = new EnterFailures();
  readonly #words: Int32Array;
  readonly #sqes: Int32Array;
  readonly #sqTailIndex: number;
  readonly #cqHeadIndex: number;
  readonly #cqTailIndex: number;
  readonly #cqesIndex: number;
  #count = 0;
  #isBusy = false;

  private constructor(descriptor: number, params: Uint32Array) {
    this.#descriptor = descriptor;
    const ringBytes = Math.max(params[16] + params[0] * 4, params[25] + params[1] * CQE_WORDS * 4);
    this.#words = new Int32Array(mapDescriptor(descriptor, (ringBytes + 4095) & ~4095, 0).buffer);
    this.#sqes = new Int32Array(mapDescriptor(descriptor, 4096, OFFSET_ENTRIES).buffer);
    this.#sqTailIndex = params[11] >> 2;
    this.#cqHeadIndex = params[20] >> 2;
    this.#cqTailIndex = params[21] >> 2;
    this.#cqesIndex = params[25] >> 2;
    for (let i = 0; i < params[0]; i++) this.#words[(params[16] >> 2) + i] = i;
  }

  /** A ring, or the negative errno of making it. `wakeDescriptor` is an eventfd that completions are added to; -1: none. */
  static open(wakeDescriptor: number): CommandRing | number {
    const params = new Uint32Array(30);
    params[2] = SetupFlag.SQE128;
    const descriptor = runningKernel.setup(ENTRIES, params);
    if (descriptor < 0) return descriptor;
    if (wakeDescriptor >= 0) {
      const result = runningKernel.register(descriptor, RegisterOp.EVENTFD, new Int32Array([wakeDescriptor]), 1);
      if (result < 0) {
        closeDescriptor(descriptor);
        return result;
      }
    }
    return new CommandRing(descriptor, params);
  }

  /** Begins a command: `operation` is the driver's number for it, `argument` up to 80 bytes of words. */
  begin(file: number, operation: number, argument: Int32Array): void {
    assert(!this.#isBusy, "one command at a time");
    this.#isBusy = true;
    // An entry is as wide as two ordinary ones.
    const at = (this.#count % ENTRIES) * 2 * SQE_WORDS;
    this.#sqes.fill(0, at, at + 2 * SQE_WORDS);
    this.#sqes[at] = Opcode.URING_CMD;
    this.#sqes[at + 1] = file;
    this.#sqes[at + 2] = operation;
    this.#sqes.set(argument, at + COMMAND_WORD);
    this.#count++;
    Atomics.store(this.#words, this.#sqTailIndex, this.#count);
    this.#enter(1, 0);
  }

  /** The command's result (>= 0, or a negative errno) when it is done, else null. */
  poll(): number | null {
    const head = this.#words[this.#cqHeadIndex];
    if (Atomics.load(this.#words, this.#cqTailIndex) === head) return null;
    // The ring has twice as many completions as entries, and one command at a time uses one of them.
    const result = this.#words[this.#cqesIndex + (head % (2 * ENTRIES)) * CQE_WORDS + 2];
    Atomics.store(this.#words, this.#cqHeadIndex, (head + 1) | 0);
    this.#isBusy = false;
    return result;
  }

  /** Carries out a command that the driver answers without waiting for anybody. */
  run(file: number, operation: number, argument: Int32Array): number {
    this.begin(file, operation, argument);
    for (;;) {
      const result = this.poll();
      if (result !== null) return result;
      this.#enter(0, 1);
    }
  }

  /** Whether a command is under way. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  close(): void {
    closeDescriptor(this.#descriptor);
  }

  #enter(toSubmit: number, minComplete: number): void {
    const flags = EnterFlag.GETEVENTS;
    while (
      libc().io_uring_enter(SyscallNumber.ENTER, this.#descriptor, toSubmit, minComplete, flags, null, null) < 0
    ) {
      const failure = -errno();
      assert(this.#failures.mayRepeat(failure), "a command can be submitted", errnoName(failure));
    }
    this.#failures.clear();
  }
}
