/**
 * Small memory that C reads and writes and that is given back when nobody refers to it any more.
 *
 * An ArrayBuffer's bytes lie outside the JavaScript heap and do not move. LIFETIME: whoever gives the address to C keeps the
 * `HeldMemory` for as long as C may use it.
 *
 * @module
 */

/** See the module's description. */
export class HeldMemory {
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Int32Array<ArrayBuffer>;
  readonly pointer: Deno.PointerObject;
  readonly address: number;

  /** Zeroed memory of at least `lengthBytes`, in whole words. */
  constructor(lengthBytes: number) {
    const buffer = new ArrayBuffer((lengthBytes + 7) & ~7);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.words = new Int32Array(buffer);
    this.pointer = Deno.UnsafePointer.of(this.bytes)!;
    this.address = Number(Deno.UnsafePointer.value(this.pointer));
  }

  /** Reads a pointer (or any number below 2^53) at byte `at`. */
  getAddress(at: number): number {
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 4294967296;
  }

  /** Writes a pointer (or any number below 2^53) at byte `at`. */
  setAddress(at: number, address: number): void {
    this.view.setUint32(at, address >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(address / 4294967296), true);
  }
}

/** The pointer-sized field at `offset` of the structure that `pointer` leads to. */
export function readAddress(pointer: Deno.PointerObject, offset: number): number {
  return Number(new Deno.UnsafePointerView(pointer).getBigUint64(offset));
}

/** The address of a pointer object. */
export function addressOf(pointer: Deno.PointerObject): number {
  return Number(Deno.UnsafePointer.value(pointer));
}
