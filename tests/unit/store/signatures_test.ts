import assert from "node:assert/strict";
import { HEAD_BYTES, nameContent, TAIL_BYTES } from "../../../lib/store/signatures.ts";

type Mark = readonly [offset: number, bytes: string | readonly number[]];

/** The end of a device with these marks; a negative offset counts from the end. */
function withMarks(lengthBytes: number, marks: readonly Mark[]): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (const [offset, mark] of marks) {
    const values = typeof mark === "string" ? [...mark].map((letter) => letter.charCodeAt(0)) : mark;
    bytes.set(values, offset < 0 ? lengthBytes + offset : offset);
  }
  return bytes;
}

const MD = [0xfc, 0x4e, 0x2b, 0xa9];
const EXT: Mark = [1024 + 0x38, [0x53, 0xef]];

Deno.test("marks at the beginning are named", () => {
  const cases: [string, Mark[]][] = [
    ["an XFS file system", [[0, "XFSB"]]],
    ["a LUKS encrypted volume", [[0, "LUKS\xba\xbe"]]],
    ["a btrfs file system", [[0x10040, "_BHRfS_M"]]],
    ["swap space", [[4086, "SWAPSPACE2"]]],
    ["an LVM2 physical volume", [[512, "LABELONE"], [536, "LVM2 001"]]],
    ["a member of a Linux software RAID (md)", [[4096, MD]]],
    ["a member of a Linux software RAID (md)", [[0, MD]]],
    ["an ext2 file system", [EXT]],
    ["an ext3 file system", [EXT, [1024 + 0x5c, [4]]]],
    ["an ext4 file system", [EXT, [1024 + 0x5c, [4]], [1024 + 0x60, [0x40]]]],
    ["an ext4 file system", [EXT, [1024 + 0x64, [0, 4]]]],
    ["a squashfs file system", [[0, "hsqs"]]],
    ["an NTFS file system", [[3, "NTFS    "], [510, [0x55, 0xaa]]]],
    ["a FAT file system", [[82, "FAT32   "], [510, [0x55, 0xaa]]]],
    ["an ISO 9660 file system", [[32769, "CD001"]]],
    ["a qcow2 disk image", [[0, "QFI\xfb"]]],
    ["a GPT partition table", [[512, "EFI PART"], [510, [0x55, 0xaa]], [450, [0xee]]]],
    ["a GPT partition table", [[4096, "EFI PART"]]],
    ["an MBR partition table", [[510, [0x55, 0xaa]], [450, [0x83]]]],
    ["an MBR partition table", [[510, [0x55, 0xaa]], [498, [0x83]]]],
    ["a boot sector", [[510, [0x55, 0xaa]]]],
  ];
  for (const [name, marks] of cases) {
    assert.equal(nameContent(withMarks(HEAD_BYTES, marks), new Uint8Array(TAIL_BYTES)), name);
  }
});

Deno.test("marks at the end are named", () => {
  const cases: [string, Mark[]][] = [
    ["a GPT partition table (its copy at the end)", [[-512, "EFI PART"]]],
    ["a GPT partition table (its copy at the end)", [[-4096, "EFI PART"]]],
    ["a member of a Linux software RAID (md 1.0)", [[-8192, MD]]],
    ["a member of a Linux software RAID (md 0.90)", [[-65536, [...MD, 0, 0, 0, 0, 90, 0, 0, 0]]]],
  ];
  for (const [name, marks] of cases) {
    assert.equal(nameContent(new Uint8Array(HEAD_BYTES), withMarks(TAIL_BYTES, marks)), name);
  }
});

Deno.test("zeroes and noise have no name, and no length is too short", () => {
  assert.equal(nameContent(new Uint8Array(HEAD_BYTES), new Uint8Array(TAIL_BYTES)), null);
  assert.equal(nameContent(new Uint8Array(HEAD_BYTES).fill(7), new Uint8Array(TAIL_BYTES).fill(7)), null);
  for (const length of [0, 1, 511, 512, 1023, 1100, 4095, 4096, 8191]) {
    assert.equal(nameContent(new Uint8Array(length), new Uint8Array(length)), null, String(length));
  }
});
