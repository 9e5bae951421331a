/**
 * What the links of one network share: the device, and memory to send from.
 *
 * @module
 */

import type { CompletionChannel } from "../../../ffi/verbs/completion_channel.ts";
import type { VerbsContext } from "../../../ffi/verbs/device.ts";

/** Memory to send from. LIFETIME: the process. */
export interface SendMemory {
  readonly baseAddress: number;
  readonly totalBytes: number;
}

/** A device in use. */
export interface DeviceInUse {
  readonly context: VerbsContext;
  readonly channel: CompletionChannel;
  readonly eventDescriptor: number;
  /** The device has failed or was removed: its links end, new ones are made on others. */
  isDead: boolean;
  /** Takes all events of the completion channel. The links that they are of have to be armed again. */
  drainEvents(): void;
}
