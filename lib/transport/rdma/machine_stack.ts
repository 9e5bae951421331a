/**
 * The RDMA of this machine, by librdmacm and libibverbs.
 *
 * @module
 */

import { CmId } from "../../../ffi/rdmacm/cm_id.ts";
import { CmEventChannel } from "../../../ffi/rdmacm/event_channel.ts";
import { CompletionChannel } from "../../../ffi/verbs/completion_channel.ts";
import { requireRdmaDevice, VerbsContext } from "../../../ffi/verbs/device.ts";
import type { Landing } from "./landing_memory.ts";
import type { LinkHost, OpenedDevice, RdmaStack, SendMemory } from "./rdma_stack.ts";
import { type LinkDevice, VerbsLink } from "./verbs_link.ts";

/** See the module's description. */
export class MachineStack implements RdmaStack {
  readonly events: CmEventChannel;

  /** Throws `RdmaUnavailable` that says what is missing. */
  constructor() {
    requireRdmaDevice();
    this.events = new CmEventChannel();
  }

  createId(): CmId | number {
    return CmId.create(this.events);
  }

  idAt(address: number): CmId {
    return new CmId(address);
  }

  openDevice(address: number): Pick<LinkDevice, keyof OpenedDevice> {
    const context = new VerbsContext(address);
    return { context, channel: new CompletionChannel(context), eventDescriptor: context.openEvents() };
  }

  makeLink(id: CmId, device: LinkDevice, memory: SendMemory, landing: Landing, host: LinkHost): VerbsLink {
    return new VerbsLink(id, device, memory, landing, host);
  }
}
