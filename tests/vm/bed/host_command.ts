/**
 * Programs of this machine, run to their end.
 *
 * @module
 */

/** How a program ended. */
export interface HostOutput {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The Debian package of each program that the bed needs and a machine may lack. */
const PACKAGES: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  "busybox": "busybox-static",
  "cpio": "cpio",
  "depmod": "kmod",
  "xz": "xz-utils",
  "dpkg-deb": "dpkg",
};

const PATH = `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin`;

/** Runs `program`. Throws, naming the package that has it, when it is not there. */
export async function outputOf(program: string, args: readonly string[], directory?: string): Promise<HostOutput> {
  try {
    const { code, stdout, stderr } = await new Deno.Command(program, {
      args: [...args],
      cwd: directory,
      env: { PATH },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(`Cannot run ${program}: install the Debian package ${PACKAGES[program] ?? program}`);
  }
}

/** Runs a program that must succeed; returns its stdout. */
export async function expectOutput(program: string, args: readonly string[], directory?: string): Promise<string> {
  const { code, stdout, stderr } = await outputOf(program, args, directory);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${stderr}${stdout}`);
  return stdout;
}

/** Path of a program. Throws, naming the package that has it, when it is not there. */
export async function programPath(program: string): Promise<string> {
  const { code, stdout } = await outputOf("sh", ["-c", 'command -v "$1"', "sh", program]);
  if (code !== 0) throw new Error(`${program} is missing: install the Debian package ${PACKAGES[program] ?? program}`);
  return stdout.trim();
}
