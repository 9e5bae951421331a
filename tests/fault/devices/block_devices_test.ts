import assert from "node:assert/strict";
import { computeLayout } from "../../../lib/disk_format/layout.ts";
import { DeviceFile, formatLeg, probeDevice, wipeLeg } from "../../../lib/store/leg_device.ts";
import { UringBlockStore } from "../../../lib/store/uring_block_store.ts";
import { legOptions, load, Machine, readWhole, refuses, withDirectory } from "../../unit/store/store_fixture.ts";
import { behavesLikeMemory, makeFile } from "../../unit/store/store_model.ts";
import { run, withExt4, withLoopDevice, withTmpfs } from "./root_fixture.ts";

const MIB = 1024 * 1024;

for (const sectorBytes of [512, 4096]) {
  Deno.test(`a block device with sectors of ${sectorBytes} bytes becomes a leg`, () => {
    withLoopDevice(sectorBytes, 32 * MIB, (path, file) => {
      assert.deepEqual(probeDevice(path), {
        path,
        kind: "block-device",
        sizeBytes: 32 * MIB,
        logicalBlockBytes: sectorBytes,
        found: null,
        leg: null,
      });
      const tooLarge = legOptions(path, { sizeBytes: 32 * MIB });
      refuses("bad-request", /too small: it has 33554432 bytes .* needs 3\d{7} \(/, () => formatLeg(tooLarge));
      const options = legOptions(path, { logicalBlockBytes: sectorBytes });
      if (sectorBytes === 4096) {
        const smaller = legOptions(path, { logicalBlockBytes: 512 });
        refuses("bad-request", /create the pool with blocks of 4096/, () => formatLeg(smaller));
      }
      run("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=32", "conv=notrunc,fsync", "status=none");
      refuses("foreign-data", /data of an unknown kind/, () => formatLeg(options));
      formatLeg({ ...options, force: true });
      assert.deepEqual(load(path).record.shared, options.shared);
      const { dataOffset, deviceBytes } = computeLayout(options);
      const data = readWhole(path).subarray(dataOffset, deviceBytes);
      assert.equal(data.length, options.sizeBytes);
      assert.ok(data.every((byte) => byte === 0), "the data reads as zeroes");
      wipeLeg(path, options.poolUuid);
      refuses("not-found", /holds no brmr leg/, () => load(path));
    });
  });
}

Deno.test("a block device that the system uses is refused", () => {
  withLoopDevice(512, 32 * MIB, (path) => {
    run("mke2fs", "-q", "-F", path);
    const mountPoint = Deno.makeTempDirSync({ prefix: "brmr_mount_" });
    run("mount", path, mountPoint);
    try {
      refuses("in-use", /in use by the system \(mounted/, () => formatLeg(legOptions(path, { force: true })));
    } finally {
      run("umount", mountPoint);
      Deno.removeSync(mountPoint);
    }
  });
});

Deno.test("what the system's own tools make is recognised", () => {
  const makers: [RegExp, (path: string) => void][] = [
    [/^an ext2 file system$/, (path) => run("mke2fs", "-q", "-F", "-t", "ext2", path)],
    [/^an ext3 file system$/, (path) => run("mke2fs", "-q", "-F", "-t", "ext3", path)],
    [/^an ext4 file system$/, (path) => run("mke2fs", "-q", "-F", "-t", "ext4", path)],
    [/^swap space$/, (path) => run("mkswap", path)],
  ];
  withDirectory((directory) => {
    for (const [expected, make] of makers) {
      const path = `${directory}/disk.img`;
      Deno.writeFileSync(path, new Uint8Array(0));
      Deno.truncateSync(path, 64 * MIB);
      assert.equal(probeDevice(path).found, null);
      make(path);
      assert.match(String(probeDevice(path).found), expected);
      refuses("foreign-data", /use --force/, () => formatLeg(legOptions(path)));
      Deno.removeSync(path);
    }
  });
});

for (const sectorBytes of [512, 4096]) {
  Deno.test(`a store on a block device with sectors of ${sectorBytes} bytes reads what was written and zeroed`, () => {
    withLoopDevice(sectorBytes, 4 * MIB, (device) => behavesLikeMemory(device, 4 * MIB, sectorBytes, 100));
  });
}

Deno.test("where ranges cannot be zeroed (tmpfs), zeroes are written", () => {
  withTmpfs("16m", (directory) => {
    behavesLikeMemory(makeFile(`${directory}/a.img`, 4 * MIB), 4 * MIB, 3, 100);
  });
});

Deno.test("a device that is full says so, and goes on with what it has", () => {
  withTmpfs("64k", (directory) => {
    const machine = new Machine();
    const path = makeFile(`${directory}/a.img`, MIB);
    const device = DeviceFile.open(path, { access: "exclusive" });
    const { reactor, pool } = machine;
    const store = new UringBlockStore({ device, reactor, pool, handler: machine });
    const slot = pool.allocate(65536);
    pool.bytes(slot).fill(3);
    store.write(1, slot, 4096, 0, false);
    assert.equal(machine.wait(1), 0);
    store.write(2, slot, 65536, 65536, false);
    assert.equal(machine.wait(2), -28);
    store.read(3, slot, 4096, 0);
    assert.equal(machine.wait(3), 0);
    assert.ok(pool.bytes(slot).subarray(0, 4096).every((byte) => byte === 3));
    store.zero(4, 1024 * 1024, 0, false);
    assert.equal(machine.wait(4), 0);
    store.write(5, slot, 4096, 524288, false);
    assert.equal(machine.wait(5), 0);
    store.close();
    reactor.dispose();
  });
});

Deno.test("a file system without room leaves no half-made leg", () => {
  withTmpfs("16k", (directory) => {
    const options = legOptions(`${directory}/a.img`);
    assert.throws(() => formatLeg(options), /ENOSPC/);
    assert.deepEqual([...Deno.readDirSync(directory)], []);
    run("mount", "-o", "remount,size=1m", directory);
    formatLeg(options);
  });
});

Deno.test("a pool larger than any file of the file system is refused, and leaves nothing", async () => {
  await withExt4((directory) => {
    const path = `${directory}/a.img`;
    // More than the file system can address: the file that was made for it goes again.
    const tooLarge = legOptions(path, { sizeBytes: 2 ** 51, chunkBytes: MIB, extentBytes: 64 * MIB });
    refuses("device", /EFBIG.*no files of that size/, () => formatLeg(tooLarge));
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["lost+found"]);
  });
});
