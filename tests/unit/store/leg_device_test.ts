import assert from "node:assert/strict";
import { encodeEpochRecord } from "../../../lib/disk_format/epoch_record.ts";
import { emptyIntentBlock, encodeIntentBlock } from "../../../lib/disk_format/intent_block.ts";
import { computeLayout, intentBlockOffset, mapPageOffset } from "../../../lib/disk_format/layout.ts";
import { encodeMapPage, WORDS_PER_MAP_PAGE } from "../../../lib/disk_format/map_page.ts";
import { DeviceFile } from "../../../lib/store/device_file.ts";
import { findContent } from "../../../lib/store/probe_leg.ts";
import {
  formatLeg,
  type FormatLegOptions,
  loadLeg,
  probeDevice,
  StoreError,
  wipeLeg,
} from "../../../lib/store/leg_device.ts";
import { legOptions, load, refuses, setAside, withDevice, withDirectory } from "./store_fixture.ts";

const MIB = 1024 * 1024;

function writeAt(path: string, offset: number, bytes: Uint8Array): void {
  using file = Deno.openSync(path, { read: true, write: true });
  file.seekSync(offset, Deno.SeekMode.Start);
  assert.equal(file.writeSync(bytes), bytes.length);
}

function page(options: FormatLegOptions, number: number, firstWord: number, sequence: number, mapIncarnation = 1) {
  const words = new Uint32Array(WORDS_PER_MAP_PAGE);
  words[0] = firstWord;
  words[WORDS_PER_MAP_PAGE - 1] = sequence; // so that any torn part of the page differs from the whole
  return encodeMapPage({ legIndex: 1, page: number, mapIncarnation, words }, options, sequence);
}

const GARBAGE = new Uint8Array(4096).fill(0x5a);

Deno.test("a new leg is a sparse file that loads as it was made", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    const absent = probeDevice(options.path);
    assert.equal(absent.kind, "absent");
    assert.equal(absent.found, null);
    const superblock = formatLeg(options);
    const layout = computeLayout(options);
    const status = Deno.statSync(options.path);
    assert.equal(status.size, layout.deviceBytes);
    assert.ok(status.blocks! * 512 < 256 * 1024, `${status.blocks} blocks in use`);
    const leg = load(options.path);
    assert.deepEqual(leg.superblock, superblock);
    assert.deepEqual(leg.layout, layout);
    assert.deepEqual(leg.record, {
      shared: options.shared,
      promisedGeneration: 1,
      promisedTo: "",
      isStable: true,
      bootId: "",
    });
    assert.deepEqual([leg.intents, leg.intentsDamaged, leg.pages, leg.findings], [[], false, [], []]);
    assert.equal(leg.maxSequence, 1);
    assert.equal(leg.intentSlots.length, options.hotExtentCount);
    const probe = probeDevice(options.path);
    assert.equal(probe.found, 'leg 0 of pool "vol1"');
    assert.equal(probe.sizeBytes, layout.deviceBytes);
  });
});

Deno.test("a device that carries a leg is refused without force and taken with it", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    const { dataOffset } = computeLayout(options);
    writeAt(options.path, dataOffset + MIB, GARBAGE);
    const second = legOptions(options.path, { poolName: "vol2" });
    refuses("foreign-data", /leg 0 of pool "vol1": use --force/, () => formatLeg(second));
    assert.equal(load(options.path).superblock.poolName, "vol1");
    formatLeg({ ...second, force: true });
    assert.equal(load(options.path).superblock.poolName, "vol2");
    assert.ok(
      Deno.readFileSync(options.path).subarray(dataOffset).every((byte) => byte === 0),
      "the data reads as zeroes",
    );
  });
});

Deno.test("without zeroData the data of a forced device stays", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`, { force: true, zeroData: false });
    const { dataOffset, deviceBytes } = computeLayout(options);
    Deno.writeFileSync(options.path, new Uint8Array(deviceBytes - 100).fill(7));
    formatLeg(options);
    const bytes = Deno.readFileSync(options.path);
    assert.equal(bytes.length, deviceBytes);
    assert.ok(bytes.subarray(dataOffset, deviceBytes - 100).every((byte) => byte === 7));
    load(options.path);
  });
});

Deno.test("space that was set aside for a file stays set aside", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    const { deviceBytes } = computeLayout(options);
    setAside(options.path, deviceBytes);
    formatLeg(options);
    assert.ok(Deno.statSync(options.path).blocks! * 512 >= deviceBytes);
    load(options.path);
  });
});

Deno.test("wrong paths and properties are refused with what to do, and leave nothing behind", () => {
  withDirectory((directory) => {
    const path = `${directory}/a.img`;
    refuses("not-found", /no directory .*create it/, () => formatLeg(legOptions(`${directory}/none/a.img`)));
    refuses("not-found", /no directory .*create it/, () => probeDevice(`${directory}/none/a.img`));
    refuses("bad-request", /is a directory: name a file/, () => formatLeg(legOptions(directory)));
    refuses("bad-request", /is a directory/, () => probeDevice(directory));
    refuses("bad-request", /neither a file nor a block device/, () => formatLeg(legOptions("/dev/null")));
    const { success } = new Deno.Command("mkfifo", { args: [`${directory}/pipe`] }).outputSync();
    assert.ok(success, "mkfifo");
    refuses("bad-request", /neither a file nor a block device/, () => probeDevice(`${directory}/pipe`));
    refuses("bad-request", /multiple of 4096/, () => formatLeg(legOptions(path, { sizeBytes: 1000 })));
    refuses("bad-request", /4K to 1M/, () => formatLeg(legOptions(path, { chunkBytes: 5000 })));
    refuses("bad-request", /64K to 64M/, () => formatLeg(legOptions(path, { extentBytes: 4096 })));
    refuses("bad-request", /1 to 65536/, () => formatLeg(legOptions(path, { hotExtentCount: 0 })));
    refuses("bad-request", /too long/, () => formatLeg(legOptions(path, { poolName: "ö".repeat(128) })));
    const shared = legOptions(path).shared;
    const farAway = { ...shared, legs: [{ ...shared.legs[0]!, address: "x".repeat(260) }] };
    refuses("bad-request", /address .* too long/, () => formatLeg(legOptions(path, { shared: farAway })));
    refuses("bad-request", /512 and 4096 are known/, () => formatLeg(legOptions(path, { logicalBlockBytes: 1024 })));
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["pipe"]);
  });
});

Deno.test("data anywhere it is looked for is found and refused without force", () => {
  const makers: [RegExp, (path: string) => void][] = [
    [/^data of an unknown kind, at byte 0$/, (path) => writeAt(path, 0, GARBAGE)],
    [/^data of an unknown kind, at byte 67104768$/, (path) => writeAt(path, 64 * MIB - 4096, GARBAGE)],
    [/^data of an unknown kind, at byte 3145728$/, (path) => writeAt(path, 3 * MIB, new Uint8Array(8 * MIB).fill(1))],
    [/^data of an unknown kind, at byte 33334567$/, (path) => writeAt(path, 33_334_567, Uint8Array.of(1))],
    [/^data of an unknown kind, at byte 33334567$/, (path) => {
      Deno.writeFileSync(path, new Uint8Array(64 * MIB));
      writeAt(path, 33_334_567, Uint8Array.of(1));
    }],
    [/^a boot sector$/, (path) => writeAt(path, 510, Uint8Array.of(0x55, 0xaa))],
    [/^a damaged brmr leg \(/, (path) => writeAt(path, 4096, new TextEncoder().encode("BRMRMETA"))],
    [/^data of an unknown kind, at byte 4\d\d\d$/, (path) => Deno.writeFileSync(path, new Uint8Array(5000))],
    [/^a file of 5 bytes$/, (path) => Deno.writeTextFileSync(path, "hello")],
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

Deno.test("more data than is read in full is looked at in places spread evenly over it, holes left out", () => {
  withDirectory((directory) => {
    const path = `${directory}/disk.img`;
    const made = [[0, 8], [40, 24]];
    const look = () => {
      const device = DeviceFile.open(path, { access: "read" });
      try {
        return findContent(device, { wholeBytes: MIB, sampleCount: 16, limitMs: Infinity });
      } finally {
        device.close();
      }
    };
    Deno.writeFileSync(path, new Uint8Array(0));
    Deno.truncateSync(path, 64 * MIB);
    for (const [at, mebibytes] of made) writeAt(path, at * MIB, new Uint8Array(mebibytes * MIB));
    assert.equal(look(), null);
    // 32 MiB of data: a place every 2 MiB of it. The sixth is 2 MiB into the second run.
    writeAt(path, 43 * MIB, Uint8Array.of(1));
    assert.equal(look(), null);
    writeAt(path, 42 * MIB + 65535, Uint8Array.of(1));
    assert.equal(look(), `data of an unknown kind, at byte ${42 * MIB + 65535}`);
  });
});

Deno.test("looking for data ends when time is up, and has then been everywhere; or when it is no longer wanted", () => {
  withDirectory((directory) => {
    const path = `${directory}/disk.img`;
    Deno.writeFileSync(path, new Uint8Array(64 * MIB));
    // A place every 4 MiB. A place takes a millisecond, by the clock that it is given.
    const look = (placeCount: number, check = () => {}) => {
      let clockMs = 0;
      const watch = { nowMs: () => clockMs++, check };
      const diligence = { wholeBytes: MIB, sampleCount: 16, limitMs: placeCount + 1 };
      return withDevice(path, (device) => findContent(device, diligence, watch));
    };
    writeAt(path, 48 * MIB, Uint8Array.of(1));
    assert.equal(look(3), null, "after the first, the ninth and the fifth place");
    assert.equal(
      look(4),
      `data of an unknown kind, at byte ${48 * MIB}`,
      "the thirteenth is the fourth to be looked at",
    );
    const stopping = () => {
      throw new StoreError("refused", "The node is stopping");
    };
    refuses("refused", /stopping/, () => look(16, stopping));
    assert.equal(probeDevice(path, { signaturesOnly: true }).found, null, "data of an unknown kind is no mark");
    writeAt(path, 510, Uint8Array.of(0x55, 0xaa));
    assert.equal(probeDevice(path, { signaturesOnly: true }).found, "a boot sector");
    // Given up before anything was written, the leg that was there is whole.
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    refuses("refused", /stopping/, () => formatLeg({ ...options, force: true }, { nowMs: () => 0, check: stopping }));
    load(options.path);
  });
});

Deno.test("a file of zeroes, and one too short, are taken without force", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    Deno.writeFileSync(options.path, new Uint8Array(MIB));
    formatLeg(options);
    assert.equal(Deno.statSync(options.path).size, computeLayout(options).deviceBytes);
    load(options.path);
  });
});

Deno.test("intents, records and dirty pages are found, and torn copies repaired", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`, { sizeBytes: 512 * MIB });
    formatLeg(options);
    const layout = computeLayout(options);
    assert.ok(layout.intentBlockCount === 2 && layout.mapPageCount === 5);
    const intents = emptyIntentBlock(1);
    intents.slots.set([77, 3, 77], 5);
    writeAt(options.path, intentBlockOffset(layout, 1), encodeIntentBlock(intents, options, 9));
    const newer = {
      shared: { ...options.shared, epoch: 2 },
      promisedGeneration: 4,
      promisedTo: "c",
      isStable: false,
      bootId: "",
    };
    writeAt(options.path, layout.epochOffset + 4096, encodeEpochRecord(newer, options, 12));
    // Page 1 whole, page 2 with its first copy torn, page 3 with both bad, page 4 of an older incarnation, page 0 torn
    // at its first write ever.
    for (const copy of [0, 4096]) {
      writeAt(options.path, mapPageOffset(layout, 1, 1) + copy, page(options, 1, 0b101, 20));
      writeAt(options.path, mapPageOffset(layout, 1, 3) + copy, GARBAGE);
      writeAt(options.path, mapPageOffset(layout, 1, 4) + copy, page(options, 4, 0xff, 30, 0));
    }
    writeAt(options.path, mapPageOffset(layout, 1, 2), page(options, 2, 0xf0, 22).subarray(0, 512));
    writeAt(options.path, mapPageOffset(layout, 1, 2) + 4096, page(options, 2, 0x0f, 21));
    writeAt(options.path, mapPageOffset(layout, 1, 0), page(options, 0, 1, 23).subarray(0, 2048));

    const check = (leg: ReturnType<typeof load>, findings: number) => {
      assert.deepEqual(leg.intents, [3, 77]);
      assert.deepEqual([...leg.intentSlots.subarray(992 + 5, 992 + 8)], [77, 3, 77]);
      assert.equal(leg.intentsDamaged, false);
      assert.deepEqual(leg.record, newer);
      assert.equal(leg.maxSequence, 30);
      assert.deepEqual(
        leg.pages.map((page) => [page.page, page.words[0], page.damaged, page.sequence]),
        [[1, 0b101, false, 20], [2, 0x0f, false, 21], [3, 0xffffffff, true, 0]],
      );
      assert.ok(leg.pages[2].words.every((word) => word === 0xffffffff));
      assert.equal(leg.findings.length, findings, leg.findings.join("\n"));
    };
    check(load(options.path), 4);
    // The second time there is nothing left to repair; the lost page is still lost.
    check(load(options.path), 1);
    assert.deepEqual(withDevice(options.path, (device) => loadLeg(device).mapPages(0)), [], "none for an in-sync leg");
    assert.deepEqual(withDevice(options.path, (device) => loadLeg(device).mapPages(2)), [], "none for no leg");
  });
});

Deno.test("a page or block written to the wrong place, or by another leg, is not believed", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`, { sizeBytes: 512 * MIB });
    formatLeg(options);
    const layout = computeLayout(options);
    for (const copy of [0, 4096]) {
      writeAt(options.path, mapPageOffset(layout, 1, 1) + copy, page(options, 2, 1, 20));
      writeAt(options.path, mapPageOffset(layout, 1, 2) + copy, page(legOptions(""), 2, 1, 20));
      writeAt(options.path, intentBlockOffset(layout, 1) + copy, encodeIntentBlock(emptyIntentBlock(0), options, 9));
    }
    const leg = load(options.path);
    assert.deepEqual(leg.pages.map((page) => [page.page, page.damaged]), [[1, true], [2, true]]);
    assert.equal(leg.intentsDamaged, true);
  });
});

Deno.test("a leg whose superblock or epoch record is lost is refused", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    const whole = Deno.readFileSync(options.path);
    writeAt(options.path, 8192, GARBAGE);
    load(options.path); // one copy suffices
    writeAt(options.path, 8192, GARBAGE);
    writeAt(options.path, 8192 + 4096, GARBAGE);
    refuses("device", /nobody can tell how far it got.*Replace it/, () => load(options.path));
    Deno.writeFileSync(options.path, whole);
    writeAt(options.path, 100, GARBAGE.subarray(0, 8));
    writeAt(options.path, 4096 + 100, GARBAGE.subarray(0, 8));
    refuses("device", /superblock is damaged/, () => load(options.path));
    Deno.writeFileSync(options.path, new Uint8Array(MIB));
    refuses("not-found", /holds no brmr leg/, () => load(options.path));
    Deno.writeFileSync(options.path, whole.subarray(0, whole.length - 4096));
    refuses("device", /has shrunk/, () => load(options.path));
  });
});

Deno.test("wipeLeg() unmakes a leg, of the right pool only", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    refuses("foreign-data", /belongs to pool "vol1"/, () => wipeLeg(options.path, crypto.randomUUID()));
    load(options.path);
    wipeLeg(options.path, options.poolUuid);
    refuses("not-found", /holds no brmr leg/, () => load(options.path));
    assert.equal(probeDevice(options.path).found, null);
    Deno.writeTextFileSync(options.path, "someone's letter".repeat(1000));
    refuses("foreign-data", /left alone/, () => wipeLeg(options.path, options.poolUuid));
    assert.equal(Deno.statSync(options.path).size, 16_000);
  });
});

Deno.test("wipeLeg() that was cut short finishes when it is called again, and removes the file", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    const { path, poolUuid, legUuid } = options;
    refuses("foreign-data", /left alone: leg/, () => wipeLeg(path, poolUuid, { legUuid: crypto.randomUUID() }));
    const cut = () => {
      throw new StoreError("refused", "The node is stopping");
    };
    const watch = { nowMs: () => 0, check: cut };
    refuses("refused", /stopping/, () => wipeLeg(path, poolUuid, { legUuid, removesFile: true, watch }));
    assert.equal(probeDevice(path).found, 'leg 0 of pool "vol1"');
    wipeLeg(path, poolUuid, { legUuid, removesFile: true });
    assert.equal(probeDevice(path).kind, "absent");
  });
});

Deno.test("a leg in use is refused to a second opener, and free once closed", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`);
    formatLeg(options);
    withDevice(options.path, () => {
      refuses("in-use", /in use by another process/, () => load(options.path));
      refuses("in-use", /in use by another process/, () => formatLeg({ ...options, force: true }));
      refuses("in-use", /in use by another process/, () => wipeLeg(options.path, options.poolUuid));
      assert.equal(probeDevice(options.path).found, 'leg 0 of pool "vol1"');
    });
    load(options.path);
  });
});

Deno.test("a 1 TiB leg takes up no more of the disk than its records, and opens without reading clean maps", () => {
  withDirectory((directory) => {
    const options = legOptions(`${directory}/a.img`, { sizeBytes: 2 ** 40 });
    formatLeg(options);
    // In blocks of 512 bytes: superblocks, epoch records and the intent log.
    assert.ok(Deno.statSync(options.path).blocks! * 512 < MIB);
    const leg = load(options.path);
    assert.equal(leg.layout.mapPageCount, 8457);
    assert.deepEqual(leg.pages, []);
  });
});
