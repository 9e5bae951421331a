/**
 * Programs for guests that this machine has not installed: fetched from Debian by apt, unpacked into a cache, laid over the
 * guests' root.
 *
 * @module
 */

import { expectOutput } from "./host_command.ts";
import { cacheDirectory } from "./kernel.ts";

/** Directories that are links into /usr on this machine: as directories of a layer they would hide what is there. */
const LINKED = ["bin", "sbin", "lib", "lib64"];

/** A directory with the files of Debian packages of the system's own suite, to be given to a bed as its layer. */
export async function guestTools(
  packages: readonly string[],
  log: (text: string) => void = console.error,
): Promise<string> {
  const root = `${cacheDirectory()}/tools`;
  const kept = `${root}/${[...packages].sort().join("+")}`;
  if (await exists(kept)) return kept;
  await Deno.mkdir(root, { recursive: true });
  const staging = await Deno.makeTempDir({ dir: root, prefix: ".fetch-" });
  try {
    log(`fetching ${packages.join(" ")}`);
    await expectOutput("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download", ...packages], staging);
    const tree = `${staging}/tree`;
    for await (const entry of Deno.readDir(staging)) {
      if (entry.name.endsWith(".deb")) await expectOutput("dpkg-deb", ["-x", `${staging}/${entry.name}`, tree]);
    }
    for (const name of LINKED) {
      if (!await exists(`${tree}/${name}`)) continue;
      await expectOutput("cp", ["-a", "--parents", name, "usr/"], tree);
      await Deno.remove(`${tree}/${name}`, { recursive: true });
    }
    await Deno.rename(tree, kept);
    return kept;
  } finally {
    await Deno.remove(staging, { recursive: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}
