/**
 * Recognising what is on a disk by the marks that file systems and the like leave on it, so that nobody's data is
 * overwritten by a slip. Pure: bytes in, words out.
 *
 * The marks and where they stand are those of each format's own documentation; blkid(8) knows many more, but here any
 * data at all is reason enough to stop, and a name only makes the message better.
 *
 * @module
 */

import { decodeSuperblock } from "../disk_format/superblock.ts";
import { pickTwin } from "../disk_format/twin.ts";
import { BLOCK_BYTES } from "../disk_format/records.ts";

/** Bytes that {@link nameContent} wants from the beginning of a device (or all there are). */
export const HEAD_BYTES = 128 * 1024;
/** Bytes that {@link nameContent} wants from its end. */
export const TAIL_BYTES = 128 * 1024;

const MD_MAGIC = 0xa92b4efc;

/**
 * What the marks at both ends of a device say it is ("an ext4 file system"); null when there is none that is known.
 *
 * @param head the first bytes of the device
 * @param tail the last bytes of it; may overlap with `head` on a small one
 */
export function nameContent(head: Uint8Array, tail: Uint8Array): string | null {
  return nameLeg(head) ?? nameHead(head) ?? nameTail(tail) ?? namePartitions(head);
}

/** A leg of ours, whole or not. */
function nameLeg(head: Uint8Array): string | null {
  if (head.length < 2 * BLOCK_BYTES) return null;
  const first = head.subarray(0, BLOCK_BYTES);
  const second = head.subarray(BLOCK_BYTES, 2 * BLOCK_BYTES);
  const pick = pickTwin(first, second, decodeSuperblock, null);
  if (pick.ok) return `leg ${pick.value.legIndex} of pool "${pick.value.poolName}"`;
  for (const fault of [pick.first, pick.second]) {
    if (fault.fault === "version" || fault.fault === "features") return `a leg of a newer brmr (${fault.message})`;
    if (fault.fault !== "empty" && fault.fault !== "magic") return `a damaged brmr leg (${fault.message})`;
  }
  return null;
}

function nameHead(head: Uint8Array): string | null {
  if (text(head, 0, "XFSB")) return "an XFS file system";
  if (text(head, 0, "LUKS\xba\xbe")) return "a LUKS encrypted volume";
  if (text(head, 0x10040, "_BHRfS_M")) return "a btrfs file system";
  if (text(head, 4086, "SWAPSPACE2") || text(head, 4086, "SWAP-SPACE")) return "swap space";
  // The label of LVM2 is in one of the first four sectors.
  for (let sector = 0; sector < 4; sector++) {
    if (text(head, sector * 512, "LABELONE") && text(head, sector * 512 + 24, "LVM2 001")) {
      return "an LVM2 physical volume";
    }
  }
  if (word(head, 0) === MD_MAGIC || word(head, 4096) === MD_MAGIC) return "a member of a Linux software RAID (md)";
  if (text(head, 0, "hsqs")) return "a squashfs file system";
  if (text(head, 3, "NTFS    ")) return "an NTFS file system";
  if (text(head, 3, "EXFAT   ")) return "an exFAT file system";
  if (text(head, 54, "FAT1") || text(head, 82, "FAT32")) return "a FAT file system";
  if (text(head, 32769, "CD001")) return "an ISO 9660 file system";
  if (text(head, 0, "QFI\xfb")) return "a qcow2 disk image";
  if (text(head, 0, "bluestore block device")) return "a Ceph BlueStore device";
  if (word(head, 1024) === 0xf2f52010) return "an F2FS file system";
  return nameExt(head);
}

/** ext2, ext3 and ext4 share a superblock; their features tell them apart. */
function nameExt(head: Uint8Array): string | null {
  const superblock = 1024;
  if (head.length < superblock + 1024 || head[superblock + 0x38] !== 0x53 || head[superblock + 0x39] !== 0xef) {
    return null;
  }
  const hasJournal = (word(head, superblock + 0x5c) & 0x4) !== 0;
  // extents, 64bit, flex_bg; huge_file, extra_isize, metadata_csum among the read-only compatible ones.
  const isExt4 = (word(head, superblock + 0x60) & 0x2c0) !== 0 || (word(head, superblock + 0x64) & 0x468) !== 0;
  return `an ${isExt4 ? "ext4" : hasJournal ? "ext3" : "ext2"} file system`;
}

function nameTail(tail: Uint8Array): string | null {
  const end = tail.length;
  // md 1.0 is 8 to 12 KiB before the end, at a multiple of 4 KiB; md 0.90 at 64 KiB before the last multiple of 64 KiB.
  for (let at = end - 12 * 1024; at <= end - 8 * 1024; at += 512) {
    if (at >= 0 && word(tail, at) === MD_MAGIC) return "a member of a Linux software RAID (md 1.0)";
  }
  for (let at = 0; at + 512 <= end; at += 512) {
    if (word(tail, at) === MD_MAGIC && word(tail, at + 4) === 0 && word(tail, at + 8) === 90) {
      return "a member of a Linux software RAID (md 0.90)";
    }
  }
  for (const sector of [512, 4096]) {
    if (end >= sector && text(tail, end - sector, "EFI PART")) return "a GPT partition table (its copy at the end)";
  }
  return null;
}

function namePartitions(head: Uint8Array): string | null {
  if (text(head, 512, "EFI PART") || text(head, 4096, "EFI PART")) return "a GPT partition table";
  if (head.length >= 512 && head[510] === 0x55 && head[511] === 0xaa) {
    for (let entry = 446; entry < 510; entry += 16) {
      if (head[entry + 4] !== 0) return "an MBR partition table";
    }
    return "a boot sector";
  }
  return null;
}

/** Whether the characters of `expected` (Latin-1) stand at `offset`. */
function text(bytes: Uint8Array, offset: number, expected: string): boolean {
  if (offset < 0 || offset + expected.length > bytes.length) return false;
  for (let i = 0; i < expected.length; i++) {
    if (bytes[offset + i] !== expected.charCodeAt(i)) return false;
  }
  return true;
}

/** The little-endian u32 at `offset`, 0 beyond the end. */
function word(bytes: Uint8Array, offset: number): number {
  if (offset < 0 || offset + 4 > bytes.length) return 0;
  return (bytes[offset] | bytes[offset + 1] << 8 | bytes[offset + 2] << 16 | bytes[offset + 3] << 24) >>> 0;
}
