/**
 * What a `VerbsNetwork` stands on: ids of the connection manager and what happens to them, devices, links. `MachineStack` is
 * the machine's own; a test gives another, on which devices die when it wants them to.
 *
 * @module
 */

import type { CmId } from "../../../ffi/rdmacm/cm_id.ts";
import type { CmEventChannel } from "../../../ffi/rdmacm/event_channel.ts";
import type { CompletionChannel } from "../../../ffi/verbs/completion_channel.ts";
import type { VerbsContext } from "../../../ffi/verbs/device.ts";
import type { Landing } from "./landing_memory.ts";
import type { RdmaLink } from "./link.ts";
import type { Offer } from "./packet.ts";

/** Ids and devices go back only to the stack that gave them. */
export interface RdmaStack {
  readonly events: Pick<CmEventChannel, "descriptor" | "takeEvent" | "close">;
  /** A new id whose events come over `events`; a negative errno when there is none to be had. */
  createId(): ConnectionId | number;
  /** The id that came with a request to connect. */
  idAt(address: number): ConnectionId;
  /** Takes up the device that an id names as its `context`. Throws `RdmaUnavailable`. */
  openDevice(address: number): OpenedDevice;
  /** Makes the queue pair of `id` and what belongs to it. Throws `RdmaUnavailable`; nothing is left behind then. */
  makeLink(id: ConnectionId, device: DeviceInUse, memory: SendMemory, landing: Landing, host: LinkHost): StackLink;
}

/** An id as the network uses it; its queue pair is its link's. */
export type ConnectionId = Pick<
  CmId,
  | "accept"
  | "address"
  | "allowReuse"
  | "bind"
  | "close"
  | "connect"
  | "context"
  | "listen"
  | "peerAddress"
  | "port"
  | "reject"
  | "resolveAddress"
  | "resolveRoute"
  | "setAckTimeout"
>;

/** A device, and the channel that tells of completions on it. */
export interface OpenedDevice {
  readonly context: Pick<VerbsContext, "name" | "takeEvent">;
  readonly channel: Pick<CompletionChannel, "descriptor" | "takeEvent" | "close">;
  /** Becomes readable when the device itself has something to tell. */
  readonly eventDescriptor: number;
}

/** A device that links use. */
export interface DeviceInUse extends OpenedDevice {
  /** Of its context. */
  readonly address: number;
  /** It has failed or was removed: its links end, new ones are made on others. */
  isDead: boolean;
  /** Takes all events of the completion channel. The links that they are of have to be armed again. */
  drainEvents(): void;
}

/** Memory to send from. LIFETIME: the process. */
export interface SendMemory {
  readonly baseAddress: number;
  readonly totalBytes: number;
}

/** A link as its network sees it. */
export interface StackLink extends RdmaLink {
  /** What the peer is told. */
  readonly offer: Offer;
  /** The connection stands. Throws `RdmaUnavailable`. */
  begin(peer: Offer): void;
  /** Address of its completion queue. */
  readonly queueAddress: number;
  /** Whether the completion channel has yet to tell of it. */
  readonly isArmed: boolean;
  /** The channel told of completions: it tells of no more until the link is armed again. */
  disarmed(): void;
  /** Whether the end that `abandon` began is over. */
  progressEnd(): boolean;
}

/** What a link asks of its network. */
export interface LinkHost {
  /** `progressEnd` of the link is to be called now and then until it says that it is over. */
  ending(link: StackLink): void;
  /** Nothing is left of the link. */
  closed(): void;
}
