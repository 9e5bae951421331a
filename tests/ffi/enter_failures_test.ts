/** A strange errno may be the runtime's own; one that stays is the kernel's. */

import assert from "node:assert/strict";
import { Errno } from "../../ffi/libc/errno.ts";
import { errno, libc } from "../../ffi/libc/library.ts";
import { EnterFailures } from "../../ffi/uring/enter_failures.ts";
import "./libc_opened.ts";

Deno.test("a call that was interrupted is repeated as often as it takes", () => {
  const failures = new EnterFailures();
  for (let i = 0; i < 1000; i++) assert.ok(failures.mayRepeat(-Errno.EINTR));
});

Deno.test("a failure that nobody can explain is repeated, but not for ever", () => {
  const failures = new EnterFailures();
  let count = 0;
  while (failures.mayRepeat(-Errno.ENOENT)) count++;
  assert.equal(count, 99);
  failures.clear();
  assert.ok(failures.mayRepeat(-Errno.EBADF));
});

Deno.test("only failures in a row count", () => {
  const failures = new EnterFailures();
  for (let i = 0; i < 1000; i++) {
    assert.ok(failures.mayRepeat(-Errno.ENOENT));
    assert.ok(failures.mayRepeat(-Errno.EINTR));
  }
});

Deno.test("the first failure of an isolate is told as any other is", () => {
  assert.equal(libc().close(-1), -1);
  assert.equal(errno(), Errno.EBADF);
});
