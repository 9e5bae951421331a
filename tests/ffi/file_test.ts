import assert from "node:assert/strict";
import "./libc_opened.ts";
import {
  allocateFile,
  AllocateMode,
  closeDescriptor,
  isAbsent,
  lockExclusive,
  openFile,
  OpenFlag,
  readAt,
  seekData,
  seekHole,
  statusOf,
  syncFile,
  truncateFile,
  unlinkPath,
  unlock,
  writeAt,
} from "../../ffi/libc/file.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { mapAnonymous, MappingFailed } from "../../ffi/libc/memory.ts";

function withDirectory(body: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "brmr-file-" });
  try {
    body(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("openFile() gives a negative errno for what is not there or not allowed", () => {
  withDirectory((directory) => {
    const absent = openFile(`${directory}/absent`, OpenFlag.READ_ONLY);
    assert.equal(absent, -Errno.ENOENT);
    assert.ok(isAbsent(absent));
    assert.equal(openFile(directory, OpenFlag.READ_WRITE), -Errno.EISDIR);
    Deno.writeTextFileSync(`${directory}/there`, "");
    const flags = OpenFlag.READ_WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE;
    assert.equal(openFile(`${directory}/there`, flags), -Errno.EEXIST);
    assert.throws(() => openFile(`${directory}/a\0b`, OpenFlag.READ_ONLY), /NUL character/);
  });
});

Deno.test("data and holes of a file are found, beyond 4 GiB too", () => {
  withDirectory((directory) => {
    const file = openFile(`${directory}/f`, OpenFlag.READ_WRITE | OpenFlag.CREATE);
    const offset = 5 * 2 ** 30;
    assert.equal(truncateFile(file, offset + 2 ** 20), 0);
    const memory = mapAnonymous(65536);
    assert.equal(writeAt(file, memory.address, 65536, offset), 65536);
    assert.equal(seekData(file, 0), offset);
    assert.equal(seekHole(file, offset), offset + 65536);
    assert.equal(seekData(file, offset + 65536), -Errno.ENXIO);
    assert.equal(seekData(file, offset + 2 ** 20), -Errno.ENXIO);
    assert.equal(closeDescriptor(file), 0);
  });
});

Deno.test("a file is written, read, punched and sized as asked, at offsets beyond 4 GiB", () => {
  withDirectory((directory) => {
    const file = openFile(`${directory}/f`, OpenFlag.READ_WRITE | OpenFlag.CREATE);
    assert.ok(file >= 0);
    const offset = 5 * 2 ** 30 + 4096;
    assert.equal(truncateFile(file, offset + 65536), 0);
    const memory = mapAnonymous(8192);
    const bytes = new Uint8Array(memory.buffer);
    bytes.fill(7, 0, 4096);
    assert.equal(writeAt(file, memory.address, 4096, offset), 4096);
    assert.equal(syncFile(file), 0);
    assert.equal(syncFile(file, true), 0);
    assert.equal(readAt(file, memory.address + 4096, 4096, offset), 4096);
    assert.deepEqual(bytes.subarray(4096), bytes.subarray(0, 4096));
    assert.equal(allocateFile(file, AllocateMode.PUNCH_HOLE, offset, 4096), 0);
    assert.equal(readAt(file, memory.address, 4096, offset), 4096);
    assert.ok(bytes.subarray(0, 4096).every((byte) => byte === 0));
    const status = statusOf(file);
    assert.ok(typeof status !== "number");
    assert.equal(status.kind, "file");
    assert.equal(status.sizeBytes, offset + 65536);
    assert.equal(status.logicalBlockBytes, 0);
    // Past the end there is nothing to read.
    assert.equal(readAt(file, memory.address, 4096, offset + 65536), 0);
    assert.equal(closeDescriptor(file), 0);
    assert.equal(unlinkPath(`${directory}/f`), 0);
    assert.equal(unlinkPath(`${directory}/f`), -Errno.ENOENT);
  });
});

Deno.test("statusOf() tells kinds apart and fails on a closed descriptor", () => {
  withDirectory((directory) => {
    const descriptor = openFile(directory, OpenFlag.READ_ONLY);
    const status = statusOf(descriptor);
    assert.ok(typeof status !== "number");
    assert.equal(status.kind, "directory");
    closeDescriptor(descriptor);
    assert.equal(statusOf(descriptor), -Errno.EBADF);
    const device = openFile("/dev/null", OpenFlag.READ_ONLY);
    const other = statusOf(device);
    assert.ok(typeof other !== "number");
    assert.equal(other.kind, "other");
    closeDescriptor(device);
  });
});

Deno.test("lockExclusive() refuses a second open file until the first lets go", () => {
  withDirectory((directory) => {
    const first = openFile(`${directory}/f`, OpenFlag.READ_WRITE | OpenFlag.CREATE);
    const second = openFile(`${directory}/f`, OpenFlag.READ_WRITE);
    assert.equal(lockExclusive(first), 0);
    assert.equal(lockExclusive(second), -Errno.EAGAIN);
    assert.equal(unlock(first), 0);
    assert.equal(lockExclusive(second), 0);
    closeDescriptor(second);
    assert.equal(lockExclusive(first), 0);
    closeDescriptor(first);
  });
});

Deno.test("mapAnonymous() says how much it could not map", () => {
  assert.throws(() => mapAnonymous(2 ** 52), (error) => {
    assert.ok(error instanceof MappingFailed);
    assert.match(error.message, /4503599627370496 bytes.*ENOMEM/);
    return true;
  });
});

Deno.test("mapped memory is zeroed, page aligned and the same in two views", () => {
  const memory = mapAnonymous(65536, { hugePages: true });
  assert.equal(memory.address % 4096, 0);
  const bytes = new Uint8Array(memory.buffer);
  assert.ok(bytes.every((byte) => byte === 0));
  new DataView(memory.buffer).setUint32(100, 0x01020304, true);
  assert.deepEqual([...bytes.subarray(100, 104)], [4, 3, 2, 1]);
});
