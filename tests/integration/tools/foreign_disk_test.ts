/**
 * A disk that carries something is never taken by a slip: pool create, leg add and replace each refuse it and say what is on it, and
 * leave it as it is.
 */

import assert from "node:assert/strict";
import { Cluster, type CommandResult, expectCommand } from "../cluster.ts";
import { requireTools } from "./required_tools.ts";

const SIZE_BYTES = 32 << 20;
/** Where Debian has the programs that make file systems. */
const SBIN = "PATH=$PATH:/usr/sbin:/sbin;";

/** What is put on a disk, and what the refusal calls it. */
interface Content {
  readonly name: string;
  readonly told: RegExp;
  /** Of the disk; 32 MiB when absent. */
  readonly sizeBytes?: number;
  readonly make: (path: string) => Promise<unknown>;
}

/** A program of Debian's makes it. */
function by(command: string, ...args: string[]): Content["make"] {
  return (path) => expectCommand("sh", ["-c", `${SBIN} exec "$@" "$0"`, path, command, ...args]);
}

function partitioned(label: string): Content["make"] {
  return (path) => expectCommand("sh", ["-c", `${SBIN} printf 'label: ${label}\\n,\\n' | sfdisk -q "$0"`, path]);
}

/** The marks that a format's own documentation gives; for tools that want a device, or a kernel, to make it. */
function marks(...places: readonly (readonly [offset: number, bytes: string | readonly number[]])[]): Content["make"] {
  return async (path) => {
    const file = await Deno.open(path, { write: true });
    for (const [offset, bytes] of places) {
      await file.seek(offset < 0 ? SIZE_BYTES + offset : offset, Deno.SeekMode.Start);
      const written = typeof bytes === "string" ? new TextEncoder().encode(bytes) : new Uint8Array(bytes);
      assert.equal(await file.write(written), written.length);
    }
    file.close();
  };
}

const MD_MAGIC = [0xfc, 0x4e, 0x2b, 0xa9];
const CONTENTS: readonly Content[] = [
  { name: "ext4", told: /an ext4 file system/, make: by("mkfs.ext4", "-q", "-F") },
  { name: "xfs", told: /an XFS file system/, sizeBytes: 320 << 20, make: by("mkfs.xfs", "-q", "-f") },
  { name: "swap", told: /swap space/, make: by("mkswap", "-q") },
  {
    name: "gpt",
    told: /a GPT partition table/,
    make: partitioned("gpt"),
  },
  {
    name: "mbr",
    told: /an MBR partition table/,
    make: partitioned("dos"),
  },
  { name: "lvm", told: /an LVM2 physical volume/, make: marks([512, "LABELONE"], [512 + 24, "LVM2 001"]) },
  { name: "md-1.2", told: /software RAID \(md\)/, make: marks([4096, MD_MAGIC]) },
  { name: "md-1.0", told: /software RAID \(md 1\.0\)/, make: marks([-8192, MD_MAGIC]) },
  { name: "luks", told: /a LUKS encrypted volume/, make: marks([0, [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]]) },
  { name: "noise", told: /data of an unknown kind/, make: marks([20_000, "somebody's data"]) },
];

/** The disk is refused, named, and still what it was. */
async function expectRefused(content: Content, path: string, run: () => Promise<CommandResult>): Promise<void> {
  const before = await digest(path);
  const { code, stderr } = await run();
  assert.equal(code, 4, `${content.name}: ${stderr}`);
  assert.match(stderr, content.told, content.name);
  assert.ok(stderr.includes(path) && stderr.includes("--force"), stderr);
  assert.equal(await digest(path), before, `${content.name} is left as it was`);
}

async function digest(path: string): Promise<string> {
  return (await expectCommand("sha256sum", [path])).split(" ")[0];
}

async function makeDisk(path: string, content: Content): Promise<void> {
  await Deno.writeFile(path, new Uint8Array(0));
  await Deno.truncate(path, content.sizeBytes ?? SIZE_BYTES);
  await content.make(path);
}

Deno.test("pool create, leg add and replace refuse a disk that carries something, and say what", async () => {
  await requireTools(["mkfs.ext4", "mkfs.xfs", "mkswap", "sfdisk", "sha256sum"]);
  const cluster = await Cluster.start({ size: "64M" });
  try {
    const [a, b] = cluster.addresses;
    // Leg 1 is out of the set: its replacement is the cold one. That of leg 0 is the hot one.
    await cluster.expect(["leg", "drain", "vol1", "1"]);
    const ours: Content = {
      name: "a leg of another pool",
      told: /leg 0 of pool "other"/,
      make: async (path) => {
        await Deno.remove(path);
        const legs = ["--leg", `${a}:${path}`, "--leg", `${b}:${path}.second`];
        await cluster.expect(["pool", "create", "other", "--size", "16M", ...legs]);
        await Deno.copyFile(path, `${path}.kept`);
        await cluster.expect(["pool", "delete", "other"]);
        await Deno.rename(`${path}.kept`, path);
      },
    };
    for (const content of [...CONTENTS, ours]) {
      const path = `${cluster.directory}/${content.name.replaceAll(" ", "-")}.img`;
      await makeDisk(path, content);
      const fresh = `${cluster.directory}/fresh.img`;
      await expectRefused(
        content,
        path,
        () =>
          cluster.brmr(["pool", "create", "new", "--size", "16M", "--leg", `${a}:${fresh}`, "--leg", `${b}:${path}`]),
      );
      await assert.rejects(Deno.stat(fresh), Deno.errors.NotFound, "a pool that is refused leaves nothing behind");
      await expectRefused(content, path, () => cluster.brmr(["leg", "add", "vol1", "--leg", `${a}:${path}`]));
      await expectRefused(content, path, () => cluster.brmr(["replace", "vol1", "--leg", "0", "--device", path]));
      await expectRefused(content, path, () => cluster.brmr(["replace", "vol1", "--leg", "1", "--device", path]));
      await Deno.remove(path);
    }
    // With --force it is taken.
    const path = `${cluster.directory}/ext4.img`;
    await makeDisk(path, CONTENTS[0]);
    await cluster.expect(["leg", "add", "vol1", "--leg", `${a}:${path}`, "--force"]);
    await cluster.expect(["leg", "undrain", "vol1", "1"]);
  } finally {
    await cluster.close();
  }
});
