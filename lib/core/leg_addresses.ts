/**
 * The addresses of a leg: which of those that its node tells this end can use, in order of preference.
 *
 * @module
 */

/** Most paths of a leg that are kept; a node may tell of more. */
const MOST_PATHS = 8;

/** What this end can connect by. */
export interface Reach {
  readonly tcp: boolean;
  readonly rdma: boolean;
}

/** By TCP alone. */
export const TCP_ONLY: Reach = { tcp: true, rdma: false };

/**
 * The paths to a leg, best first.
 * @param address where the leg table leads; always among them
 * @param told addresses that its node tells: "host:port" for TCP, "rdma://host:port"
 */
export function pathsOf(address: string, told: readonly string[], reach: Reach): string[] {
  const rdma = reach.rdma ? told.filter(isRdma) : [];
  // Where both are named, each is its own path; otherwise the transport may find RDMA at an address by itself.
  const scheme = rdma.length > 0 ? "tcp://" : "";
  const tcp = reach.tcp ? told.filter((each) => !isRdma(each)).map((each) => scheme + bare(each)) : [];
  const paths = [...new Set([...rdma, ...tcp])].slice(0, MOST_PATHS);
  if (!paths.some((path) => bare(path) === bare(address))) paths.push(address);
  return paths;
}

function isRdma(path: string): boolean {
  return path.startsWith("rdma://");
}

/** An address without its scheme. */
export function bare(path: string): string {
  return path.replace(/^(tcp|rdma):\/\//, "");
}
