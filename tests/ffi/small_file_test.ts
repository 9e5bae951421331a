import "./libc_opened.ts";
import assert from "node:assert/strict";
import { Errno } from "../../ffi/libc/errno.ts";
import {
  canOpen,
  linkTarget,
  makeDirectory,
  namesIn,
  placeLink,
  readSmallFile,
  writeSmallFile,
} from "../../ffi/libc/small_file.ts";
import { becomeIoFlusher } from "../../ffi/libc/process.ts";

Deno.test("files of the kernel are read whole, whatever size they say they have", async () => {
  assert.match(String(readSmallFile("/proc/sys/kernel/random/boot_id")), /^[0-9a-f-]{36}$/);
  assert.equal(readSmallFile("/proc/self/nothing"), -Errno.ENOENT);
  const dir = await Deno.makeTempDir();
  try {
    // Longer than one piece, with a character across its border.
    const text = "x".repeat((64 << 10) - 1) + "é" + "y".repeat(100_000);
    await Deno.writeTextFile(`${dir}/long`, ` ${text.slice(1)}\n\n`);
    assert.equal(readSmallFile(`${dir}/long`), text.slice(1));
    await Deno.writeTextFile(`${dir}/short`, "");
    assert.equal(writeSmallFile(`${dir}/short`, "5000"), 0);
    assert.equal(readSmallFile(`${dir}/short`), "5000");
    assert.equal(writeSmallFile(`${dir}/absent`, "5000"), -Errno.ENOENT);
    assert.deepEqual(namesIn(dir), ["long", "short"]);
    assert.equal(namesIn(`${dir}/absent`), -Errno.ENOENT);
    assert.deepEqual([canOpen(dir), canOpen(`${dir}/absent`)], [true, false]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a link takes the place of another, in a directory that may be there already", async () => {
  const dir = await Deno.makeTempDir();
  try {
    assert.equal(makeDirectory(`${dir}/brmr`, 0o755), 0);
    assert.equal(makeDirectory(`${dir}/brmr`, 0o755), 0);
    const link = `${dir}/brmr/vol1`;
    assert.equal(linkTarget(link), -Errno.ENOENT);
    assert.equal(placeLink(link, "../nbd0"), 0);
    assert.equal(placeLink(link, "../nbd1"), 0);
    assert.equal(linkTarget(link), "../nbd1");
    assert.deepEqual(namesIn(`${dir}/brmr`), ["vol1"]);
    assert.equal(linkTarget(dir), -Errno.EINVAL);
    assert.equal(placeLink(`${dir}/absent/vol1`, "../nbd0"), -Errno.ENOENT);
    assert.equal(placeLink(`${dir}/brmr`, "../nbd0"), -Errno.EISDIR, "a directory stays");
    assert.deepEqual(namesIn(dir), ["brmr"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("who may not be an I/O flusher is told so", () => {
  assert.ok([0, -Errno.EPERM].includes(becomeIoFlusher()));
});
