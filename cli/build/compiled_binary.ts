/**
 * Looks into a binary that `deno compile` made: which files it carries, with which permissions it will run.
 *
 * The binary is Deno's runtime with one more ELF section, `.note.sui`, whose note holds in this order: a name, the
 * magic word, the metadata as JSON, the npm snapshot, the remote modules, the file tree as JSON, the files' bytes, the
 * magic word again. Lengths are u64, little-endian. Source: `cli/standalone/binary.rs` of Deno 2.9.
 *
 * Files only: brmr is compiled from one bundled module, so a snapshot or remote modules are reported as an error.
 *
 * @module
 */

/** What a compiled binary carries. */
export interface CompiledBinary {
  /** Path of the module that is run, as in `files`. */
  readonly entrypoint: string;
  /** Granted permissions, by name ("allow_ffi"): an empty list means all of it. Permissions that are not granted are left out. */
  readonly permissions: Readonly<Record<string, readonly string[]>>;
  /** Whether it asks at the terminal for what is not granted. */
  readonly prompt: boolean;
  /** Embedded files: path and bytes. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

const MAGIC = "d3n0l4nd";
const SECTION = ".note.sui";

/** The file tree's JSON. `o` is offset and length among the files' bytes. */
type TreeEntry =
  | { readonly File: { readonly n: string; readonly o: readonly [number, number] } }
  | { readonly Dir: { readonly n: string; readonly e: readonly TreeEntry[] } };

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  take(lengthBytes: number): Uint8Array {
    if (lengthBytes < 0 || this.#at + lengthBytes > this.#bytes.length) throw new Error("The note ends too early");
    this.#at += lengthBytes;
    return this.#bytes.subarray(this.#at - lengthBytes, this.#at);
  }

  text(lengthBytes: number): string {
    return new TextDecoder().decode(this.take(lengthBytes));
  }

  uint16(): number {
    this.take(2);
    return this.#view.getUint16(this.#at - 2, true);
  }

  length(): number {
    this.take(8);
    return Number(this.#view.getBigUint64(this.#at - 8, true));
  }
}

/** The contents of ELF section `name`. Throws when the file is no 64-bit little-endian ELF, or has no such section. */
function elfSection(file: Uint8Array, name: string): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, false) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1) {
    throw new Error("Not a 64-bit ELF file");
  }
  const tableOffset = Number(view.getBigUint64(40, true));
  const entryBytes = view.getUint16(58, true);
  const count = view.getUint16(60, true);
  const section = (index: number) => {
    const at = tableOffset + index * entryBytes;
    const offset = Number(view.getBigUint64(at + 24, true));
    const lengthBytes = Number(view.getBigUint64(at + 32, true));
    return { nameAt: view.getUint32(at, true), bytes: file.subarray(offset, offset + lengthBytes) };
  };
  const names = section(view.getUint16(62, true)).bytes;
  for (let index = 0; index < count; index++) {
    const { nameAt, bytes } = section(index);
    if (new TextDecoder().decode(names.subarray(nameAt, names.indexOf(0, nameAt))) === name) return bytes;
  }
  throw new Error(`There is no section ${name}: not made by "deno compile"`);
}

/** The description of the only note in a note section. */
function noteDescription(section: Uint8Array): Uint8Array {
  const view = new DataView(section.buffer, section.byteOffset, section.byteLength);
  const nameBytes = view.getUint32(0, true);
  const start = 12 + Math.ceil(nameBytes / 4) * 4;
  return section.subarray(start, start + view.getUint32(4, true));
}

function collectFiles(entries: readonly TreeEntry[], prefix: string, bytes: Uint8Array, into: Map<string, Uint8Array>) {
  for (const entry of entries) {
    if ("Dir" in entry) collectFiles(entry.Dir.e, `${prefix}${entry.Dir.n}/`, bytes, into);
    else if ("File" in entry) {
      const [offset, lengthBytes] = entry.File.o;
      into.set(prefix + entry.File.n, bytes.subarray(offset, offset + lengthBytes));
    } else {throw new Error(
        `The file tree holds something that is neither file nor directory: ${JSON.stringify(entry)}`,
      );}
  }
}

/** Reads a compiled binary. Throws with the reason when it is not one, or carries what it should not. */
export function readCompiledBinary(file: Uint8Array): CompiledBinary {
  const reader = new Reader(noteDescription(elfSection(file, SECTION)));
  reader.text(reader.uint16());
  if (reader.text(MAGIC.length) !== MAGIC) throw new Error("The note does not begin with Deno's magic word");
  const metadata = JSON.parse(reader.text(reader.length()));
  if (reader.length() !== 0) throw new Error("The binary carries npm packages: it was not compiled from the bundle");
  // Three u32 counts: specifiers, redirects, modules.
  if (reader.take(12).some((byte) => byte !== 0)) throw new Error("The binary carries remote modules");
  const tree = JSON.parse(reader.text(reader.length())) as TreeEntry[];
  const bytes = reader.take(reader.length());
  if (reader.text(MAGIC.length) !== MAGIC) throw new Error("The note does not end with Deno's magic word");
  const files = new Map<string, Uint8Array>();
  collectFiles(tree, "", bytes, files);
  const permissions: Record<string, readonly string[]> = {};
  for (const [name, granted] of Object.entries(metadata.permissions)) {
    // What code may be imported from: only static imports of a bundle that has none.
    if (name.startsWith("allow_") && name !== "allow_import" && granted !== null) {
      permissions[name] = granted as readonly string[];
    }
  }
  return { entrypoint: metadata.entrypoint_key, permissions, prompt: metadata.permissions.prompt, files };
}
