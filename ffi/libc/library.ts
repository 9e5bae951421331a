/**
 * The C library, opened on first use. Everything below `ffi/libc` goes through here.
 *
 * Signatures follow the C prototypes. Calls on the data path have only 32-bit numbers and pointers, because Deno makes fast
 * calls of those; a 64-bit argument would have to be a bigint, so calls with `size_t` or `off_t` are for setting up.
 * `open`, `ioctl`, `prctl` and `syscall` are variadic in C; on Linux x86-64 and aarch64 integer arguments of a variadic
 * function are passed like those of any other.
 *
 * @module
 */

const SYMBOLS = {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  symlink: { parameters: ["buffer", "buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  opendir: { parameters: ["buffer"], result: "pointer" },
  readdir: { parameters: ["pointer"], result: "pointer" },
  closedir: { parameters: ["pointer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  fsync: { parameters: ["i32"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  ftruncate64: { parameters: ["i32", "i64"], result: "i32" },
  lseek64: { parameters: ["i32", "i64", "i32"], result: "i64" },
  fallocate64: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  pread64: { parameters: ["i32", "pointer", "usize", "i64"], result: "isize" },
  pwrite64: { parameters: ["i32", "pointer", "usize", "i64"], result: "isize" },
  read: { parameters: ["i32", "pointer", "usize"], result: "isize" },
  write: { parameters: ["i32", "pointer", "usize"], result: "isize" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  geteuid: { parameters: [], result: "u32" },
  sched_yield: { parameters: [], result: "i32" },
  recvmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // write(2) once more, with its size_t given as a pointer object: that keeps the call fast. See `wakeEventfd`.
  write_word: { name: "write", parameters: ["i32", "pointer", "pointer"], result: "i32" },
  // Its ssize_t fits 32 bits, since no message of ours is longer than 2 GiB: see `sendNow`.
  sendmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  clock_gettime: { parameters: ["i32", "pointer"], result: "i32" },
  prctl: { parameters: ["i32", "buffer"], result: "i32" },
  // The same with words for arguments: those of PR_SET_IO_FLUSHER beyond the first must be zero.
  prctl_words: { name: "prctl", parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  getrlimit64: { parameters: ["i32", "buffer"], result: "i32" },
  setrlimit64: { parameters: ["i32", "buffer"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
  // io_uring has no libc wrappers. The kernel takes these arguments as unsigned int; `argsz` is a size_t and therefore
  // declared as a pointer (a pointer object whose value is the size), so that all 64 bits of it are defined.
  io_uring_setup: { name: "syscall", parameters: ["u32", "u32", "buffer"], result: "i32" },
  io_uring_enter: {
    name: "syscall",
    parameters: ["u32", "u32", "u32", "u32", "u32", "pointer", "pointer"],
    result: "i32",
  },
  io_uring_register: { name: "syscall", parameters: ["u32", "u32", "u32", "buffer", "u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of the C library that this program uses, as Deno FFI symbols. */
export type LibcSymbols = Deno.StaticForeignLibraryInterface<typeof SYMBOLS>;

/** Thrown when the C library cannot be opened: not Linux with glibc, or no FFI permission. */
export class LibcUnavailable extends Error {
  override name = "LibcUnavailable";
}

let opened: LibcSymbols | undefined;
/** The errno of this isolate's thread, once {@link libc} was called. */
let errnoWord = new Int32Array(1);

/** The C library's functions. Opens it at the first call in an isolate; throws {@link LibcUnavailable}. */
export function libc(): LibcSymbols {
  return opened ??= open();
}

function open(): LibcSymbols {
  if (Deno.build.os !== "linux") {
    throw new LibcUnavailable(`brmr needs Linux; this is ${Deno.build.os}`);
  }
  try {
    // Stays open for the life of the process: LIFETIME: nothing is ever unloaded, so function pointers remain valid.
    const { symbols } = Deno.dlopen("libc.so.6", SYMBOLS);
    // At once: to look for it when a call has failed could itself change it.
    // LIFETIME: errno lives in thread-local storage, as long as the thread of this isolate.
    errnoWord = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(symbols.__errno_location()!, 4));
    return symbols;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LibcUnavailable(
      `Cannot open the C library (${reason}). brmr needs Linux with glibc and Deno's --allow-ffi`,
      { cause },
    );
  }
}

/**
 * errno of the last failed call on this thread. Only meaningful straight after a synchronous call that returned -1: an
 * isolate runs on one thread, and errno's address is a property of the thread, so it is taken once. Even then it may, very
 * rarely, be of a system call that the runtime has made in between: nothing that cannot be undone may depend on it.
 */
export function errno(): number {
  return errnoWord[0];
}

/** `result` itself when it is >= 0, else the negative errno of the call that just returned it. */
export function resultOrErrno(result: number): number {
  return result >= 0 ? result : -errno();
}

/** `text` as a C string. Throws when it holds a NUL, which would silently cut it short. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError(`"${text.replaceAll("\0", "\\0")}" contains a NUL character; remove it`);
  return new TextEncoder().encode(text + "\0");
}
