/**
 * What the main isolate of a node and its data-plane worker tell each other. Down: the start message by `postMessage`
 * (the worker still has its event loop then), everything later through the mailbox. Up: `postMessage`, which arrives at
 * once even though the worker never returns to its event loop. All of it is JSON-like plain data, and all of it is rare.
 *
 * @module
 */

import type { ForceOrder } from "../core/forced_start.ts";
import type { CoreEvent } from "../core/output.ts";
import type { ClientSnapshot } from "../core/snapshot.ts";
import type { DeviceChoice } from "../frontend/device_choice.ts";
import type { MailboxPort } from "../io/mailbox.ts";
import type { FormatLegOptions } from "../store/leg_device.ts";
import type { TransportPolicy } from "../transport/transport_choice.ts";
import type { ControlErrorCode, LegPath } from "../control/control_api.ts";
import type { BusyPollPolicy } from "../io/turns.ts";
import type { PayloadCrcPolicy } from "../transport/payload_crc.ts";

/** First message to the worker of a storage node. */
export interface StorageStart {
  readonly role: "storage";
  readonly mailbox: MailboxPort;
  readonly memoryBytes: number;
  readonly nodeUuid: string;
  readonly nodeName: string;
  /** It listens on RDMA too. */
  readonly usesRdma: boolean;
  /** Where others are to reach it, as far as is known before it listens. */
  readonly addresses: readonly string[];
  /** These are all; addresses that it comes to listen on are not added. */
  readonly hasAllAddresses: boolean;
  readonly payloadCrc: PayloadCrcPolicy;
  readonly busyPoll: BusyPollPolicy;
}

/** First message to the worker of a client node. */
export interface ClientStart {
  readonly role: "client";
  readonly mailbox: MailboxPort;
  readonly memoryBytes: number;
  readonly poolUuid: string;
  readonly poolName: string;
  readonly clientUuid: string;
  readonly clientName: string;
  readonly sizeBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  readonly chunkBytes: number;
  readonly logicalBlockBytes: number;
  /** Where the legs are: the address of the leg table, and what their nodes told. */
  readonly legs: readonly { readonly legIndex: number; readonly address: string; readonly told?: readonly string[] }[];
  readonly readOnly: boolean;
  readonly takeover: boolean;
  /** An order to start in spite of the start rule. */
  readonly force?: ForceOrder;
  readonly heartbeatMs: number;
  /** How long to wait for a leg that the pool may not start without; 0 takes the core's own limit. */
  readonly startTimeoutMs: number;
  /** How to reach legs. */
  readonly transport: TransportPolicy;
  readonly payloadCrc: PayloadCrcPolicy;
  readonly busyPoll: BusyPollPolicy;
  /** How long I/O waits for legs before it fails; 0 takes the pool's own. */
  readonly ioTimeoutMs: number;
  readonly poolIoTimeoutMs: number;
  /** Paths of unix sockets, or "tcp://host:port" on loopback, where NBD is offered. */
  readonly nbd: readonly string[];
  /** The block device to make; "auto" takes the first place of `nbd` when there can be none. */
  readonly device: DeviceChoice | null;
  /** The claim under which a device was served that a dead attach has left here; null where there is none, or it is not known. */
  readonly leftGeneration: number | null;
  /** Sockets between the kernel and this process, should the device be /dev/nbdN. */
  readonly nbdSocketCount: number;
}

/** Name of the event of a detach after which the legs have to be compared; the core has it as well. */
export const UNCLEAN_DETACH = "unclean-detach";

/** What is erased. */
export interface ErasedLeg {
  readonly path: string;
  readonly poolUuid: string;
  readonly legUuid: string;
  /** The file goes too. */
  readonly createdFile: boolean;
}

/** Only message to the worker for one piece of work on a device that is not served; it answers with a {@link WorkerResponse}. */
export type DeviceStart =
  & {
    readonly role: "device";
    /** One 32-bit word, not 0 once the work is to end. */
    readonly stopWord: SharedArrayBuffer;
  }
  & (
    | { readonly op: "probe"; readonly request: { readonly path: string; readonly signaturesOnly: boolean } }
    | { readonly op: "look"; readonly request: { readonly path: string } }
    | { readonly op: "format"; readonly request: FormatLegOptions }
    | { readonly op: "erase"; readonly request: ErasedLeg }
  );

/** First message to a data plane. */
export type DataPlaneStart = StorageStart | ClientStart;
export type WorkerStart = DataPlaneStart | DeviceStart;

/** Main to worker, by mailbox: an operation that is answered by a {@link WorkerResponse} of the same id. */
export interface WorkerRequest {
  readonly kind: "request";
  readonly id: number;
  readonly op: string;
  // deno-lint-ignore no-explicit-any -- each operation has its own arguments; main has validated them
  readonly request: any;
}

/** Main to storage worker: send this reply to the operator on connection `key`, if it is still there. */
export interface ControlReply {
  readonly kind: "control-reply";
  readonly key: number;
  readonly requestId: number;
  readonly reply: unknown;
}

export type MailboxMessage = WorkerRequest | ControlReply | { readonly kind: "stop" };

/** An error that crosses between isolates. */
export interface PlainError {
  readonly code: ControlErrorCode;
  readonly message: string;
}

/** Worker to main: the outcome of a {@link WorkerRequest}. */
export interface WorkerResponse {
  readonly kind: "response";
  readonly id: number;
  readonly result?: unknown;
  readonly error?: PlainError;
}

export type WorkerReport =
  | WorkerResponse
  /** The worker listens for its start message. */
  | { readonly kind: "loaded" }
  /** An operator asks; answer with a {@link ControlReply}. */
  | {
    readonly kind: "control";
    readonly key: number;
    readonly requestId: number;
    readonly text: string;
  }
  | { readonly kind: "event"; readonly pool: string; readonly event: CoreEvent }
  /** Client: the pool is served at these URIs, under this claim. */
  | { readonly kind: "ready"; readonly uris: readonly string[]; readonly generation: number }
  /** Client: it was assembled anew, or is about to take over what was left, under this claim. */
  | { readonly kind: "claimed-anew"; readonly generation: number }
  /** Client: the pool cannot be attached. */
  | { readonly kind: "refused"; readonly error: PlainError }
  /** The loop has ended in an orderly way. */
  | { readonly kind: "stopped" }
  /** The loop has ended by a bug or for want of something it cannot do without. */
  | { readonly kind: "fatal"; readonly message: string; readonly stack: string; readonly error?: PlainError };

/** Result of the client worker's operation "status". */
export interface ClientWorkerStatus {
  readonly uris: readonly string[];
  readonly connections: number;
  readonly paths: readonly LegPath[];
  readonly snapshot: ClientSnapshot;
}
