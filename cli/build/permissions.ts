/**
 * The permissions each subcommand runs with: the least it can do with, written once. The portable executable, the
 * compiled binary, the tasks, the integration tests and the manifest test all take them from here.
 *
 * `--allow-ffi` cannot be narrowed: Deno's pointer API asks for all of it. It is given to the commands that run a data
 * plane (`serve`, `attach`, and `demo`, which starts both) or look into the kernel (`list`, `detach`), and to no other. Paths of legs and sockets are chosen by the user at run
 * time, so file permissions cannot be narrowed to paths here; a unit file that knows its paths can do better.
 *
 * @module
 */

/** Environment variables the command line reads. */
const ENVIRONMENT =
  "--allow-env=BRMR_*,XDG_RUNTIME_DIR,XDG_CONFIG_HOME,HOME,NO_COLOR,FORCE_COLOR,TERM,NOTIFY_SOCKET,TMPDIR,COLUMNS";

/** For commands that ask running nodes: TCP to storage nodes, the unix sockets of clients, the configuration file; what metrics writes. */
const CONTROL = ["--allow-net", "--allow-read", "--allow-write", ENVIRONMENT, "--allow-sys=uid"];

const BY_COMMAND: Readonly<Record<string, readonly string[]>> = {
  // All its sockets are the data plane's, which go through foreign functions and not through Deno.
  serve: ["--allow-ffi", "--allow-read", "--allow-write", ENVIRONMENT, "--allow-sys=hostname"],
  attach: ["--allow-ffi", "--allow-net", "--allow-read", "--allow-write", ENVIRONMENT, "--allow-sys=hostname,uid"],
  // They look at block devices, and remove one that a dead attach has left.
  list: ["--allow-ffi", ...CONTROL],
  detach: ["--allow-ffi", ...CONTROL],
  demo: [
    ...["--allow-ffi", "--allow-run", "--allow-net", "--allow-read", "--allow-write", ENVIRONMENT],
    "--allow-sys=hostname,uid",
  ],
};

/** Commands with permissions of their own; all others run with the control set. */
export const COMMANDS_WITH_OWN_PERMISSIONS: readonly string[] = Object.keys(BY_COMMAND);

/** Flags for `deno run`, for one subcommand ("serve", "pool", ...). `--no-prompt`: a daemon has nobody to ask. */
export function permissionFlags(command: string): string[] {
  return ["--no-prompt", ...(BY_COMMAND[command] ?? CONTROL)];
}

/** Flags for a binary that holds every subcommand. */
export function allPermissionFlags(): string[] {
  return ["--no-prompt", ...BY_COMMAND.demo];
}
