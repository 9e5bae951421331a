/**
 * Where running clients put their control sockets, and what those are called.
 *
 * @module
 */

import { ControlError } from "./control_api.ts";

/** What {@link runtimeDir} asks of its surroundings; given by tests. */
export interface RuntimeSurroundings {
  env(name: string): string | undefined;
  /** Whether `path` is a directory that this user may write to, or may create. */
  isWritable(path: string): boolean;
  uid(): number | null;
}

/** Longest path of a unix socket: `sun_path` less its closing zero (unix(7)). */
const SOCKET_PATH_LIMIT_BYTES = 107;

const SYSTEM_DIR = "/run/brmr";

const process: RuntimeSurroundings = {
  env: (name) => Deno.env.get(name),
  isWritable: isWritableDir,
  uid: () => Deno.uid(),
};

/**
 * The directory of control sockets: $BRMR_RUNTIME_DIR; else, for root, /run/brmr, if that can be written to; else
 * $XDG_RUNTIME_DIR/brmr; else /run/brmr when this user may write there; else /tmp/brmr-UID. It need not exist yet.
 */
export function runtimeDir(surroundings: RuntimeSurroundings = process): string {
  const own = surroundings.env("BRMR_RUNTIME_DIR");
  if (own !== undefined && own !== "") return own;
  // Root has an XDG_RUNTIME_DIR in a login session and none in a service: both must find the same pools.
  if (surroundings.uid() === 0 && surroundings.isWritable(SYSTEM_DIR)) return SYSTEM_DIR;
  const user = surroundings.env("XDG_RUNTIME_DIR");
  if (user !== undefined && user !== "") return `${user}/brmr`;
  if (surroundings.isWritable(SYSTEM_DIR)) return SYSTEM_DIR;
  return `/tmp/brmr-${surroundings.uid() ?? 0}`;
}

/**
 * Path of the control socket of the client that has `poolName` attached.
 * @throws {ControlError} "bad-request" when the path is too long for a socket.
 */
export function clientSocketPath(dir: string, poolName: string): string {
  const path = `${dir}/client-${poolName}.sock`;
  if (new TextEncoder().encode(path).length > SOCKET_PATH_LIMIT_BYTES) {
    throw new ControlError(
      "bad-request",
      `The path of the control socket, ${path}, is longer than ${SOCKET_PATH_LIMIT_BYTES} bytes. ` +
        `Set BRMR_RUNTIME_DIR to a shorter directory.`,
    );
  }
  return path;
}

/** Names of the pools that have a control socket in `dir`, sorted. A socket may be a leftover: connect to know. */
export async function listClientSockets(dir: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(dir)) {
      const match = /^client-(.+)\.sock$/.exec(entry.name);
      if (match !== null) names.push(match[1]);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

/**
 * Makes `dir` for this user alone (mode 0700: whoever can reach a control socket can detach the pool).
 * @throws {ControlError} "refused" when it belongs to another user, as a trap in /tmp would.
 */
export function makeRuntimeDir(dir: string): void {
  Deno.mkdirSync(dir, { recursive: true, mode: 0o700 });
  const info = Deno.lstatSync(dir);
  const uid = Deno.uid();
  if (!info.isDirectory || (info.uid !== null && uid !== null && info.uid !== uid && info.uid !== 0)) {
    throw new ControlError(
      "refused",
      `${dir} is not a directory of this user. Set BRMR_RUNTIME_DIR to one that is.`,
    );
  }
}

function isWritableDir(path: string): boolean {
  // Asked of the kernel by trying: mode bits do not tell of capabilities or read-only mounts.
  try {
    Deno.mkdirSync(path, { recursive: true, mode: 0o700 });
    const probe = Deno.makeTempFileSync({ dir: path, prefix: ".probe-" });
    Deno.removeSync(probe);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) return false;
    if (error instanceof Error && "code" in error && (error.code === "EROFS" || error.code === "EACCES")) return false;
    throw error;
  }
}
