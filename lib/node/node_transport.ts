/**
 * The transport of a data-plane worker: TCP always, RDMA beside it where it is wanted and to be had.
 *
 * @module
 */

import { rdmaDeviceNames } from "../../ffi/verbs/device.ts";
import { RdmaUnavailable } from "../../ffi/verbs/library.ts";
import type { CoreEvent } from "../core/output.ts";
import type { SlabBufferPool } from "../io/slab_buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { MachineStack } from "../transport/rdma/machine_stack.ts";
import type { RdmaStack } from "../transport/rdma/rdma_stack.ts";
import { RdmaTransport } from "../transport/rdma/rdma_transport.ts";
import { VerbsNetwork } from "../transport/rdma/verbs_network.ts";
import { LocalNetwork } from "../transport/local_network.ts";
import type { PayloadCrcPolicy } from "../transport/payload_crc.ts";
import type { BorrowingPool } from "../transport/payload_sharing.ts";
import { TcpTransport } from "../transport/tcp_transport.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import { TransportChoice, type TransportPolicy } from "../transport/transport_choice.ts";
import { UringNetwork } from "../transport/uring_network.ts";

/** What a worker's transport is made of. */
export interface NodeTransportOptions {
  readonly reactor: UringReactor;
  readonly pool: SlabBufferPool;
  readonly handler: TransportHandler;
  readonly policy: TransportPolicy;
  /** What {@link openRdma} has found. */
  readonly rdma: VerbsNetwork | null;
  /** What part of the pool peers may write to. */
  readonly landingShare: number;
  /** Takes up the memory that clients of this machine share; null for a node that does not listen. */
  readonly borrow: BorrowingPool | null;
  /** Whether memory is shared with nodes of this machine. Not where there is RDMA, which lends part of the pool itself. */
  readonly lendsMemory: boolean;
  readonly payloadCrc: PayloadCrcPolicy;
  readonly maxConnections?: number;
  readonly report: (event: CoreEvent) => void;
}

/** Fewer bytes than this are no use: a connection takes 2 MiB at least. */
const LEAST_LANDING_BYTES = 4 << 20;

/** Makes it. */
export function makeTransport(options: NodeTransportOptions): Transport {
  const { reactor, pool, handler, policy, maxConnections } = options;
  const report = (message: string) => options.report({ level: "warning", name: "connection-closed", message });
  const links = options.rdma;
  const network = new LocalNetwork({
    reactor,
    network: new UringNetwork(reactor),
    lend: options.lendsMemory && links === null ? pool : null,
    borrow: options.borrow,
    report,
  });
  const slots = options.borrow ?? pool;
  const tcpOptions = { maxConnections, report, checksums: options.payloadCrc !== "never" };
  if (links === null) return new TcpTransport(network, slots, handler, tcpOptions);
  const choice = new TransportChoice(policy, handler, reactor);
  const landingBytes = Math.max(LEAST_LANDING_BYTES, Math.floor(pool.totalBytes * options.landingShare));
  const rdma = new RdmaTransport(links, pool, choice.rdmaHandler, reactor, {
    landingBytes,
    checksums: options.payloadCrc === "always",
    report,
  });
  choice.attach(new TcpTransport(network, slots, choice.tcpHandler, tcpOptions), rdma);
  return choice;
}

/** What RDMA is opened with. */
export interface RdmaChoice {
  readonly reactor: UringReactor;
  readonly pool: SlabBufferPool;
  readonly policy: TransportPolicy;
  /** Without RDMA on this machine it fails, whatever the policy. */
  readonly mustHaveRdma: boolean;
  readonly report: (event: CoreEvent) => void;
}

/** The RDMA of this machine; null where there is none, or it is not wanted. Throws {@link RdmaUnavailable} when it is demanded and missing. */
export function openRdma(
  options: RdmaChoice,
  openStack: () => RdmaStack = () => new MachineStack(),
): VerbsNetwork | null {
  if (options.policy === "tcp") return null;
  const report = (message: string) => options.report({ level: "warning", name: "connection-closed", message });
  try {
    const links = new VerbsNetwork(options.reactor, options.pool, report, openStack());
    options.report({ level: "info", name: "rdma", message: `RDMA over ${rdmaDeviceNames().join(", ")}` });
    return links;
  } catch (error) {
    if (!(error instanceof RdmaUnavailable) || options.mustHaveRdma) throw error;
    // The ordinary case is a machine without RDMA, which goes on over TCP. Where there is a device, something is wrong.
    const isOrdinary = error.lack === "library" || error.lack === "device";
    if (!isOrdinary) options.report({ level: "warning", name: "rdma", message: `RDMA is not used. ${error.message}` });
    return null;
  }
}
