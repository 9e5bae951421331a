/**
 * Whether a failed io_uring_enter is worth another try.
 *
 * errno is read when the call has come back to JavaScript. Now and then the runtime makes a system call of its own on this thread in between
 * (to compile, to collect garbage), and leaves another number there. A call that keeps failing has a reason of its own.
 *
 * @module
 */

import { Errno } from "../libc/errno.ts";

/** Failures in a row that nobody can explain before they count. */
const MOST_STRANGE = 100;

/** The failures of one ring's calls. */
export class EnterFailures {
  #strange = 0;

  /** A call did not fail, or failed for a reason that passes. */
  clear(): void {
    this.#strange = 0;
  }

  /** Whether the call that failed with `result`, a negative errno, is to be made again at once. */
  mayRepeat(result: number): boolean {
    if (result !== -Errno.EINTR) return ++this.#strange < MOST_STRANGE;
    this.clear();
    return true;
  }
}
