/**
 * CRC-32 (ISO-HDLC, the polynomial of zlib) over a frame header, in TypeScript.
 *
 * For payloads node:zlib's crc32 is many times faster. For 60 bytes the call and the view it needs cost four times more
 * than the sum itself (160 ns against 40), and the view is an allocation for every frame.
 *
 * @module
 */

/** Bytes of the header that the sum covers: all but the sum itself. */
const COVERED_BYTES = 60;

// Slicing by eight: TABLE_k[b] is the effect of byte b on the sum after k more zero bytes.
const TABLE_0 = firstTable();
const TABLE_1 = nextTable(TABLE_0);
const TABLE_2 = nextTable(TABLE_1);
const TABLE_3 = nextTable(TABLE_2);
const TABLE_4 = nextTable(TABLE_3);
const TABLE_5 = nextTable(TABLE_4);
const TABLE_6 = nextTable(TABLE_5);
const TABLE_7 = nextTable(TABLE_6);

/** The sum (u32) over the 60 bytes at `at`. */
export function headerCrc(view: DataView, at: number): number {
  let sum = -1;
  // Seven strides of eight bytes and one of four.
  const lastStride = at + COVERED_BYTES - 4;
  for (let i = at; i < lastStride; i += 8) {
    const low = view.getInt32(i, true) ^ sum;
    const high = view.getInt32(i + 4, true);
    sum = TABLE_7[low & 255] ^ TABLE_6[(low >>> 8) & 255] ^ TABLE_5[(low >>> 16) & 255] ^ TABLE_4[low >>> 24] ^
      TABLE_3[high & 255] ^ TABLE_2[(high >>> 8) & 255] ^ TABLE_1[(high >>> 16) & 255] ^ TABLE_0[high >>> 24];
  }
  const rest = view.getInt32(lastStride, true) ^ sum;
  sum = TABLE_3[rest & 255] ^ TABLE_2[(rest >>> 8) & 255] ^ TABLE_1[(rest >>> 16) & 255] ^ TABLE_0[rest >>> 24];
  return ~sum >>> 0;
}

function firstTable(): Int32Array {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum & 1) !== 0 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
    table[byte] = sum;
  }
  return table;
}

function nextTable(previous: Int32Array): Int32Array {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = (previous[byte] >>> 8) ^ TABLE_0[previous[byte] & 255];
  return table;
}
