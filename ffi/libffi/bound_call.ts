/**
 * Calls of function pointers with arguments that are always the same: what a provider of verbs puts into a table instead of
 * exporting it. The arguments lead to memory whose contents change.
 *
 * Deno calls function pointers through a general path that costs about 1 µs. `ffi_call` of libffi is an exported function
 * like any other, so calling the pointer through it is a fast call of 60 ns. libffi is on nearly every machine (glib and
 * p11-kit need it), but nothing here depends on it: without it the general path is taken.
 *
 * @module
 */

import { addressOf, HeldMemory } from "../libc/held_memory.ts";

const SYMBOLS = {
  ffi_prep_cif: { parameters: ["pointer", "u32", "u32", "pointer", "pointer"], result: "i32" },
  ffi_call: { parameters: ["pointer", "pointer", "pointer", "pointer"], result: "void" },
  ffi_type_pointer: { type: "pointer" },
  ffi_type_sint32: { type: "pointer" },
  ffi_type_void: { type: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

type LibffiSymbols = Deno.StaticForeignLibraryInterface<typeof SYMBOLS>;

/** FFI_UNIX64 on x86-64, FFI_SYSV on aarch64: see ffitarget.h. */
const DEFAULT_ABI = Deno.build.arch === "aarch64" ? 1 : 2;
/** `struct ffi_cif` has 32 bytes, on some architectures a few more. */
const CIF_BYTES = 64;

let opened: LibffiSymbols | null | undefined;

function libffi(): LibffiSymbols | null {
  if (opened === undefined) {
    try {
      opened = Deno.dlopen("libffi.so.8", SYMBOLS).symbols;
    } catch {
      opened = null; // not installed, or of another major version: calls take the general path
    }
  }
  return opened;
}

/** One argument: an address, a 32-bit number, or the address that stands in memory at `pointerAt` when the call is made. */
export type BoundArgument = { readonly pointer: number } | { readonly int: number } | { readonly pointerAt: number };

/** A call that returns an int. LIFETIME: the memory behind the arguments is the caller's to keep. */
export interface BoundCall {
  call(): number;
}

/** The same of a function that returns nothing. */
export interface BoundVoidCall {
  call(): void;
}

/** Whether function pointers are called through libffi. */
export function hasFastPointerCalls(): boolean {
  return libffi() !== null;
}

/** Binds `parameters` to the C function at `address`, which returns an int. With `general` libffi is not used. */
export function bindCall(address: number, parameters: readonly BoundArgument[], general = false): BoundCall {
  return bind(address, parameters, "i32", general);
}

/** The same for a C function that returns nothing. */
export function bindVoidCall(address: number, parameters: readonly BoundArgument[], general = false): BoundVoidCall {
  return bind(address, parameters, "void", general);
}

type ResultType = "i32" | "void";

function bind(address: number, parameters: readonly BoundArgument[], result: ResultType, general: boolean): BoundCall {
  const library = general ? null : libffi();
  return library === null
    ? new GeneralCall(address, parameters, result)
    : new FastCall(library, address, parameters, result);
}

class FastCall implements BoundCall {
  readonly #ffiCall: LibffiSymbols["ffi_call"];
  readonly #memory: HeldMemory;
  readonly #function: Deno.PointerValue;
  readonly #cif: Deno.PointerValue;
  readonly #result: Deno.PointerValue;
  readonly #values: Deno.PointerValue;
  readonly #resultWord: number;

  constructor(library: LibffiSymbols, address: number, parameters: readonly BoundArgument[], result: ResultType) {
    const count = parameters.length;
    const typesAt = CIF_BYTES;
    const valuesAt = typesAt + 8 * count;
    const argumentsAt = valuesAt + 8 * count;
    const resultAt = argumentsAt + 8 * count;
    const memory = new HeldMemory(resultAt + 8);
    parameters.forEach((parameter, i) => {
      const type = "int" in parameter ? library.ffi_type_sint32 : library.ffi_type_pointer;
      memory.setAddress(typesAt + 8 * i, addressOf(type!));
      memory.setAddress(valuesAt + 8 * i, memory.address + argumentsAt + 8 * i);
      if ("pointer" in parameter) memory.setAddress(argumentsAt + 8 * i, parameter.pointer);
      else if ("int" in parameter) memory.view.setInt32(argumentsAt + 8 * i, parameter.int, true);
      else memory.setAddress(valuesAt + 8 * i, parameter.pointerAt); // libffi takes it from there
    });
    const at = (offset: number) => Deno.UnsafePointer.create(BigInt(memory.address + offset));
    const resultType = result === "void" ? library.ffi_type_void : library.ffi_type_sint32;
    const status = library.ffi_prep_cif(memory.pointer, DEFAULT_ABI, count, resultType, at(typesAt));
    if (status !== 0) throw new Error(`ffi_prep_cif failed with status ${status}`);
    this.#ffiCall = library.ffi_call;
    this.#memory = memory;
    this.#function = Deno.UnsafePointer.create(BigInt(address));
    this.#cif = memory.pointer;
    this.#result = at(resultAt);
    this.#values = at(valuesAt);
    this.#resultWord = resultAt >> 2;
  }

  call(): number {
    this.#ffiCall(this.#cif, this.#function, this.#result, this.#values);
    return this.#memory.words[this.#resultWord];
  }
}

class GeneralCall implements BoundCall {
  readonly #call: () => number;

  constructor(address: number, parameters: readonly BoundArgument[], result: ResultType) {
    const definition: Deno.ForeignFunction = {
      parameters: parameters.map((each) => "int" in each ? "i32" : "pointer"),
      result,
    };
    const pointer = new Deno.UnsafeFnPointer(Deno.UnsafePointer.create(BigInt(address))!, definition);
    const values = parameters.map((each) => {
      if ("int" in each) return () => each.int;
      if ("pointer" in each) {
        const value = Deno.UnsafePointer.create(BigInt(each.pointer));
        return () => value;
      }
      const place = new Deno.UnsafePointerView(Deno.UnsafePointer.create(BigInt(each.pointerAt))!);
      return () => Deno.UnsafePointer.create(place.getBigUint64());
    });
    // The definition is made at run time, so its types are not known here.
    const call = pointer.call.bind(pointer) as (...values: unknown[]) => number;
    this.#call = () => call(...values.map((value) => value()));
  }

  call(): number {
    return this.#call();
  }
}
