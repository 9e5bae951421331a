/**
 * Kernels for guests: fetched from Debian by apt, unpacked into a cache, never installed on this machine.
 *
 * The system's apt state is not touched: a suite other than the system's own is asked for with lists and a cache in a
 * temporary directory. What is fetched is checked by apt as always.
 *
 * @module
 */

import { expectOutput, outputOf } from "./host_command.ts";

/** A kernel in the cache. */
export interface GuestKernel {
  readonly release: string;
  /** Path of the bootable image. */
  readonly image: string;
  /** Its `/lib/modules/RELEASE`, unpacked. */
  readonly modules: string;
}

/** Oldest release the suites can do with: ublk with user recovery, user copy and automatic device numbers. */
const OLDEST_RELEASE = [6, 8] as const;

/** Trees that no guest here has devices for; leaving them out makes the cache a quarter of its size. */
const UNUSED_TREES = [
  ...["accel", "atm", "bluetooth", "comedi", "edac", "firewire", "gnss", "gpu", "hid", "hwmon", "i2c", "iio"],
  ...["input", "isdn", "leds", "media", "mfd", "mtd", "net/can", "net/usb", "net/wireless", "pinctrl", "platform"],
  ...["power", "regulator", "rtc", "spi", "staging", "thunderbolt", "usb", "video"],
].map((tree) => `drivers/${tree}`).concat(["sound", "net/mac80211", "net/wireless", "net/bluetooth", "net/can"]);

/** Where kernels are kept: `$BRMR_VM_CACHE`, or `brmr-vm` in the user's cache directory. */
export function cacheDirectory(): string {
  const own = Deno.env.get("BRMR_VM_CACHE");
  if (own !== undefined && own !== "") return own;
  const base = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  return `${base}/brmr-vm`;
}

/** The kernel that guests boot: the newest of the cache (or `$BRMR_VM_KERNEL`, by prefix), fetched when there is none. */
export async function guestKernel(log: (text: string) => void = console.error): Promise<GuestKernel> {
  const root = `${cacheDirectory()}/kernels`;
  const wanted = Deno.env.get("BRMR_VM_KERNEL") ?? "";
  const cached = async () => {
    const releases: string[] = [];
    try {
      for await (const entry of Deno.readDir(root)) if (entry.name.startsWith(wanted)) releases.push(entry.name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return releases.filter((name) => !name.startsWith(".") && isNewEnough(name)).sort(byRelease).at(-1);
  };
  const release = await cached() ?? await fetchKernel(root, log);
  if (!release.startsWith(wanted)) throw new Error(`There is no kernel "${wanted}" in ${root}; it has ${release}`);
  return { release, image: `${root}/${release}/vmlinuz`, modules: `${root}/${release}/lib/modules/${release}` };
}

/** Fetches Debian's kernel into `root`. Returns its release. */
async function fetchKernel(root: string, log: (text: string) => void): Promise<string> {
  const packageName = Deno.env.get("BRMR_VM_PACKAGE") ?? "linux-image-amd64";
  await Deno.mkdir(root, { recursive: true });
  const staging = await Deno.makeTempDir({ dir: root, prefix: ".fetch-" });
  try {
    const apt = await aptFor(await suite(), `${staging}/apt`);
    const names = await kernelPackages(packageName, apt);
    log(`fetching ${names.join(" ")}`);
    await Deno.mkdir(`${staging}/tree`);
    await expectOutput("apt-get", [...apt, "-qq", "-o", "APT::Sandbox::User=root", "download", ...names], staging);
    for await (const entry of Deno.readDir(staging)) {
      if (!entry.name.endsWith(".deb")) continue;
      await expectOutput("dpkg-deb", ["-x", `${staging}/${entry.name}`, `${staging}/tree`]);
    }
    return await keepKernel(`${staging}/tree`, root, packageName);
  } finally {
    await Deno.remove(staging, { recursive: true });
  }
}

/** Moves what a guest needs of an unpacked kernel package to `root/RELEASE`. */
async function keepKernel(tree: string, root: string, packageName: string): Promise<string> {
  // Until 6.x the package had /lib/modules; later ones have everything under /usr/lib.
  const found = (await Promise.all(["lib/modules", "usr/lib/modules"].map((path) => firstEntry(`${tree}/${path}`))))
    .find((path) => path !== null);
  if (found == null) throw new Error(`Package ${packageName} holds no kernel modules`);
  const release = found.slice(found.lastIndexOf("/") + 1);
  for (const unused of UNUSED_TREES) await removeTree(`${found}/kernel/${unused}`);
  // Unpacked modules load several times faster under emulation.
  const unpack = "find \"$1\" -name '*.ko.xz' -print0 | xargs -0 -r -n 50 -P 2 xz -d && " +
    "find \"$1\" -name '*.ko.zst' -print0 | xargs -0 -r -n 50 zstd -dq --rm";
  await expectOutput("sh", ["-c", unpack, "sh", found]);

  const kept = `${tree}/../kept`;
  await Deno.mkdir(`${kept}/lib/modules`, { recursive: true });
  const image = await firstThatExists([`${tree}/boot/vmlinuz-${release}`, `${found}/vmlinuz`]);
  await Deno.rename(image, `${kept}/vmlinuz`);
  await Deno.rename(found, `${kept}/lib/modules/${release}`);
  await expectOutput("depmod", ["-b", kept, release]);
  await removeTree(`${root}/${release}`);
  await Deno.rename(kept, `${root}/${release}`);
  return release;
}

/** The suite to fetch from: `$BRMR_VM_SUITE`, or backports when the system's own kernel is too old; "" for the system's. */
async function suite(): Promise<string> {
  const own = Deno.env.get("BRMR_VM_SUITE");
  if (own !== undefined) return own;
  const codename = /^VERSION_CODENAME=(\w+)$/m.exec(await Deno.readTextFile("/etc/os-release"))?.[1] ?? "";
  return codename === "bookworm" ? "bookworm-backports" : "";
}

/** Options that make apt ask `suite` of the archive that this machine uses, with all its state in `directory`. */
async function aptFor(suite: string, directory: string): Promise<string[]> {
  if (suite === "") return [];
  const targets = await expectOutput("apt-get", [
    ...["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
  ]);
  const archive = targets.split("\n").find((line) => line.startsWith("Debian|"))?.slice("Debian|".length);
  if (archive === undefined) throw new Error("apt has no Debian archive configured; see /etc/apt/sources.list");
  await Deno.mkdir(`${directory}/lists/partial`, { recursive: true });
  await Deno.mkdir(`${directory}/archives/partial`, { recursive: true });
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  await Deno.writeTextFile(`${directory}/sources.list`, `deb [signed-by=${keys}] ${archive} ${suite} main\n`);
  const options = [
    `Dir::Etc::sourcelist=${directory}/sources.list`,
    "Dir::Etc::sourceparts=/dev/null",
    `Dir::State::lists=${directory}/lists`,
    `Dir::Cache=${directory}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  await expectOutput("apt-get", [...options, "-qq", "update"]);
  return options;
}

/** The packages behind a kernel's name: linux-image-amd64 stands for linux-image-RELEASE, which newer ones split. */
async function kernelPackages(name: string, apt: readonly string[]): Promise<string[]> {
  const names = [name];
  for (const known of names) {
    const { stdout } = await outputOf("apt-cache", [...apt, "depends", "--important", known]);
    for (const [, depends] of stdout.matchAll(/^ *Depends: (linux-(?:image|base|binary|modules)-[0-9]\S*)/gm)) {
      if (!names.includes(depends)) names.push(depends);
    }
  }
  if (names.length === 1) throw new Error(`apt knows no kernel package "${name}"; run apt-get update first`);
  return names;
}

function isNewEnough(release: string): boolean {
  const [major, minor] = release.split(".").map(Number);
  return major > OLDEST_RELEASE[0] || (major === OLDEST_RELEASE[0] && minor >= OLDEST_RELEASE[1]);
}

function byRelease(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

async function firstEntry(directory: string): Promise<string | null> {
  try {
    for await (const entry of Deno.readDir(directory)) return `${directory}/${entry.name}`;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return null;
}

async function firstThatExists(paths: readonly string[]): Promise<string> {
  for (const path of paths) {
    const info = await Deno.stat(path).catch(() => null);
    if (info !== null) return path;
  }
  throw new Error(`None of ${paths.join(", ")} exists`);
}

async function removeTree(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
