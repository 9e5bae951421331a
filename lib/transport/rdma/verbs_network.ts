/**
 * Links of real queue pairs, by librdmacm and libibverbs, on a reactor.
 *
 * One event channel of the connection manager; for each device that turns up a completion channel and the device's own
 * events. All three are descriptors that the reactor polls. A device that dies takes its links with it; a port
 * that goes down shows itself by what is not acknowledged.
 *
 * @module
 */

import type { CmEvent } from "../../../ffi/rdmacm/event_channel.ts";
import { CmEventType } from "../../../ffi/rdmacm/layout.ts";
import { HeldMemory } from "../../../ffi/libc/held_memory.ts";
import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { errnoName } from "../../../ffi/libc/errno.ts";
import type { UringReactor } from "../../io/uring_reactor.ts";
import { AddressError, formatSocketAddress, parseSocketAddress } from "../../io/socket_address.ts";
import { CloseReason } from "../close_reason.ts";
import type { AcceptLink, LinkListener, LinkUser, PendingLink, RdmaNetwork } from "./link.ts";
import { MachineStack } from "./machine_stack.ts";
import { decodeOffer, encodeOffer, OFFER_BYTES } from "./packet.ts";
import type { ConnectionId, DeviceInUse, LinkHost, RdmaStack, SendMemory, StackLink } from "./rdma_stack.ts";

/** How long a name of the fabric may take to be found. */
const RESOLVE_LIMIT_MS = 1000;
const BACKLOG = 64;
/** 4.096 µs times 2^16: 0.27 s, seven times: a packet that nobody acknowledges ends the link after 2 to 4 s. */
const ACK_TIMEOUT_EXPONENT = 16;

const TOKEN_CM = 0;
const TOKEN_ENDING = 1;
const TOKEN_LISTENING = 2;
/** Even: completions of a device; odd: its events. */
const FIRST_DEVICE_TOKEN = 4;
/** How often links that are ending are looked at: after this, then after twice as long each time, up to the most. */
const FIRST_LOOK_MS = 1;
const MOST_LOOK_MS = 64;

/** What is waited for on a descriptor has not come, and never will. */
const POLLERR = 8;
/** How often a listener whose device is gone is tried again. */
const RELISTEN_SECONDS = 1;

/** A listener; without an id while its device is gone. */
interface Listener {
  readonly address: string;
  readonly accept: AcceptLink;
  id: ConnectionId | null;
  isOpen: boolean;
}

/** An id that is becoming, or is, a link. */
interface Attempt {
  readonly id: ConnectionId;
  /** Null for an id that listens, and after its user has given up. */
  user: LinkUser | null;
  link: StackLink | null;
  device: DeviceInUse | null;
  isUp: boolean;
  offer: Uint8Array;
}

/** What the network asks of a reactor. */
export type PollingReactor = Pick<UringReactor, "register" | "pollReadable" | "cancel" | "delay">;

/** See the module's description. Addresses as `parseSocketAddress` reads them, "rdma://" optional. */
export class VerbsNetwork implements RdmaNetwork {
  onReadable: () => void = () => {};
  readonly #reactor: PollingReactor;
  readonly #memory: SendMemory;
  readonly #report: (text: string) => void;
  readonly #owner: number;
  readonly #stack: RdmaStack;
  readonly #attempts = new Map<number, Attempt>();
  readonly #listeners = new Map<number, Listener>();
  #lostListeners: Listener[] = [];
  #isRelistening = false;
  /** LIFETIME: as for `#lookTime`. */
  readonly #relistenTime = new HeldMemory(16);
  readonly #devices: DeviceInUse[] = [];
  /** Links that were let go of and have not ended. */
  #ending: StackLink[] = [];
  #lookMs = FIRST_LOOK_MS;
  #isLooking = false;
  /** LIFETIME: read by the kernel when a look is submitted. */
  readonly #lookTime = new HeldMemory(16);
  #isClosing = false;
  #isClosed = false;
  #pollCount = 0;

  /** Throws `RdmaUnavailable` that says what is missing. */
  constructor(
    reactor: PollingReactor,
    memory: SendMemory,
    report: (text: string) => void,
    stack: RdmaStack = new MachineStack(),
  ) {
    this.#stack = stack;
    this.#reactor = reactor;
    this.#memory = memory;
    this.#report = report;
    this.#owner = reactor.register(this);
    this.#relistenTime.view.setUint32(0, RELISTEN_SECONDS, true);
    this.#poll(TOKEN_CM, stack.events.descriptor);
  }

  listen(address: string, accept: AcceptLink): LinkListener {
    const socketAddress = rdmaAddress(address);
    const id = this.#listenAt(socketAddress.bytes);
    const boundAddress = socketAddress.text.replace(/:0$/, `:${id.port}`);
    const listener: Listener = { address: boundAddress, accept, id, isOpen: true };
    this.#listeners.set(id.address, listener);
    return {
      boundAddress,
      close: () => {
        listener.isOpen = false;
        if (listener.id === null) return;
        this.#listeners.delete(listener.id.address);
        listener.id.close();
        listener.id = null;
      },
    };
  }

  turn(): void {
    this.#progressEnds();
  }

  #listenAt(socketAddress: Uint8Array<ArrayBuffer>): ConnectionId {
    const id = this.#check(this.#stack.createId(), "make a listener");
    id.allowReuse();
    let result = id.bind(socketAddress);
    if (result >= 0) result = id.listen(BACKLOG);
    if (result >= 0) return id;
    id.close();
    throw new Error(
      `${errnoName(result)}. ${
        result === CloseReason.NO_DEVICE
          ? "No RDMA device has this address; ibv_devinfo -v shows their GIDs"
          : "Is the address this machine's, and free?"
      }`,
    );
  }

  connect(address: string, user: LinkUser): PendingLink {
    const socketAddress = rdmaAddress(address);
    const id = this.#check(this.#stack.createId(), "make a connection");
    const attempt = this.#note(id, user);
    const result = id.resolveAddress(socketAddress.bytes, RESOLVE_LIMIT_MS);
    if (result < 0) {
      this.#drop(attempt);
      throw new Error(`${errnoName(result)}: no RDMA device leads there`);
    }
    return { cancel: () => this.#drop(attempt) };
  }

  /** Lets everything go; it is closed when the reactor has given up its polls. After all links and listeners are closed. */
  close(): void {
    this.#isClosing = true;
    for (const token of [TOKEN_CM, TOKEN_LISTENING]) this.#reactor.cancel(this.#owner, token);
    for (let i = 0; i < 2 * this.#devices.length; i++) this.#reactor.cancel(this.#owner, FIRST_DEVICE_TOKEN + i);
  }

  /** Whether `close` has come to its end. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  onCompletion(token: number, result: number): void {
    if (token === TOKEN_ENDING) this.#isLooking = false;
    else if (token === TOKEN_LISTENING) this.#isRelistening = false;
    else this.#pollCount--;
    this.#progressEnds();
    if (this.#isClosing) {
      if (this.#pollCount > 0 || this.#isLooking || this.#isRelistening || this.#ending.length > 0) return;
      this.#isClosed = true;
      for (const { channel, isDead } of this.#devices) if (!isDead) channel.close();
      this.#stack.events.close();
      return;
    }
    if (token === TOKEN_LISTENING) return this.#listenAgain();
    if (token === TOKEN_ENDING) return this.onReadable();
    if (token === TOKEN_CM) {
      const { events } = this.#stack;
      for (let event = events.takeEvent(); event !== null; event = events.takeEvent()) this.#happened(event);
      this.#poll(token, events.descriptor);
    } else {
      const device = this.#devices[(token - FIRST_DEVICE_TOKEN) >> 1];
      if (device.isDead) return;
      if (result > 0 && (result & POLLERR) !== 0) this.#died(device);
      else if ((token - FIRST_DEVICE_TOKEN) % 2 === 0) {
        device.drainEvents();
        this.#poll(token, device.channel.descriptor);
      } else {
        this.#deviceEvents(device);
        if (!device.isDead) this.#poll(token, device.eventDescriptor);
      }
    }
    this.onReadable();
  }

  /** Ends the links that can be ended, and looks again later at those that cannot. */
  #progressEnds(): void {
    if (this.#ending.length === 0) return;
    this.#ending = this.#ending.filter((link) => !link.progressEnd());
    if (this.#ending.length > 0 && !this.#isLooking) this.#lookLater();
  }

  #lookLater(): void {
    this.#isLooking = true;
    this.#lookTime.view.setUint32(8, this.#lookMs * 1e6, true);
    this.#reactor.delay(this.#owner, TOKEN_ENDING, this.#lookTime.address);
    this.#lookMs = Math.min(MOST_LOOK_MS, 2 * this.#lookMs);
  }

  #poll(token: number, descriptor: number): void {
    this.#pollCount++;
    this.#reactor.pollReadable(this.#owner, token, descriptor);
  }

  // ---- the connection manager's events ----------------------------------------------------------------------------

  #happened(event: CmEvent): void {
    if (event.type === CmEventType.CONNECT_REQUEST) return this.#requested(event);
    if (event.type === CmEventType.DEVICE_REMOVAL) return this.#removed(event.id);
    const attempt = this.#attempts.get(event.id);
    if (attempt === undefined) return;
    switch (event.type) {
      case CmEventType.ADDR_RESOLVED: {
        attempt.id.setAckTimeout(ACK_TIMEOUT_EXPONENT);
        const result = attempt.id.resolveRoute(RESOLVE_LIMIT_MS);
        if (result < 0) this.#fail(attempt, result);
        return;
      }
      case CmEventType.ROUTE_RESOLVED:
        return this.#dial(attempt);
      case CmEventType.ESTABLISHED:
        return this.#established(attempt, event.privateData);
      case CmEventType.REJECTED:
        return this.#fail(attempt, CloseReason.REFUSED);
      case CmEventType.ADDR_ERROR:
      case CmEventType.ROUTE_ERROR:
      case CmEventType.CONNECT_ERROR:
      case CmEventType.UNREACHABLE:
        return this.#fail(attempt, event.status < 0 ? event.status : CloseReason.TIMED_OUT);
      case CmEventType.DISCONNECTED:
        return this.#lost(attempt, 0);
      case CmEventType.ADDR_CHANGE:
        // The address that the link was made with leads elsewhere now: a new link finds out where.
        return this.#lost(attempt, CloseReason.RESET);
      default:
        return;
    }
  }

  #requested(event: CmEvent): void {
    const id = this.#stack.idAt(event.id);
    const accept = this.#listeners.get(event.listenId)?.accept;
    const attempt = this.#note(id, null);
    attempt.offer = event.privateData;
    const offer = decodeOffer(event.privateData);
    const peerAddress = formatSocketAddress(id.peerAddress);
    if (offer === null) this.#report(`A connection from ${peerAddress} is refused: it does not speak this protocol`);
    attempt.user = offer === null ? null : accept?.(peerAddress, { cancel: () => this.#drop(attempt) }) ?? null;
    if (attempt.user === null) {
      id.reject();
      this.#drop(attempt);
      return;
    }
    id.setAckTimeout(ACK_TIMEOUT_EXPONENT);
    const parameters = this.#makeLink(attempt);
    if (parameters === null) {
      id.reject();
      return this.#fail(attempt, CloseReason.IO_ERROR);
    }
    const result = id.accept(parameters);
    if (result < 0) this.#fail(attempt, result);
  }

  #dial(attempt: Attempt): void {
    const parameters = this.#makeLink(attempt);
    if (parameters === null) return this.#fail(attempt, CloseReason.IO_ERROR);
    const result = attempt.id.connect(parameters);
    if (result < 0) this.#fail(attempt, result);
  }

  /** Makes the queue pair and what belongs to it. What is offered to the peer, or null after a report. */
  #makeLink(attempt: Attempt): HeldMemory | null {
    try {
      attempt.device = this.#deviceOf(attempt.id);
      const { landing } = attempt.user!;
      const host: LinkHost = {
        ending: (link) => {
          this.#ending.push(link);
          this.#lookMs = FIRST_LOOK_MS;
          if (!this.#isLooking) this.#lookLater();
        },
        closed: () => this.#forget(attempt),
      };
      const link = this.#stack.makeLink(attempt.id, attempt.device, this.#memory, landing, host);
      attempt.link = link;
      const parameters = new HeldMemory(OFFER_BYTES);
      encodeOffer(link.offer, parameters.view);
      return parameters;
    } catch (error) {
      this.#report(`No RDMA connection: ${error instanceof Error ? error.message : error}`);
      return null;
    }
  }

  #established(attempt: Attempt, privateData: Uint8Array): void {
    const { user, link } = attempt;
    if (user === null || link === null) return;
    // What the other end offered came with its request, or comes with its answer.
    const offer = decodeOffer(attempt.offer.length > 0 ? attempt.offer : privateData);
    if (offer === null) {
      this.#report(`The peer at ${formatSocketAddress(attempt.id.peerAddress)} does not speak this protocol`);
      return this.#fail(attempt, CloseReason.PROTOCOL);
    }
    try {
      link.begin(offer);
    } catch (error) {
      this.#report(`No RDMA connection: ${error instanceof Error ? error.message : error}`);
      return this.#fail(attempt, CloseReason.IO_ERROR);
    }
    attempt.isUp = true;
    user.onEstablished(link, offer);
  }

  #lost(attempt: Attempt, reason: number): void {
    if (!attempt.isUp) return this.#fail(attempt, reason === 0 ? CloseReason.REFUSED : reason);
    attempt.user?.onDisconnected(reason);
  }

  #fail(attempt: Attempt, reason: number): void {
    const { user } = attempt;
    if (user === null && attempt.link === null) return;
    // A rejection may come to one that stands: of a peer that has not heard that it does and gives up, or of one that wants to harm. It
    // ends as all that stand do: there may be work under way.
    if (attempt.isUp) return user?.onDisconnected(reason);
    this.#drop(attempt);
    user?.onFailed(reason);
  }

  // ---- devices ----------------------------------------------------------------------------------------------------

  #deviceOf({ context: address }: ConnectionId): DeviceInUse {
    const known = this.#aliveAt(address);
    if (known !== undefined) return known;
    const device: DeviceInUse = {
      ...this.#stack.openDevice(address),
      address,
      isDead: false,
      drainEvents: () => this.#drainEvents(device),
    };
    const token = FIRST_DEVICE_TOKEN + 2 * this.#devices.length;
    this.#devices.push(device);
    this.#poll(token, device.channel.descriptor);
    this.#poll(token + 1, device.eventDescriptor);
    return device;
  }

  /** A device that died may have left its address to another. */
  #aliveAt(address: number): DeviceInUse | undefined {
    return this.#devices.find((each) => each.address === address && !each.isDead);
  }

  /** A queue tells once for each time it is armed: when none of the device's is, there is nothing more to take. */
  #drainEvents(device: DeviceInUse): void {
    for (;;) {
      let hasArmed = false;
      for (const attempt of this.#attempts.values()) {
        if (attempt.device === device && attempt.link?.isArmed) hasArmed = true;
      }
      if (!hasArmed) return;
      const queue = device.channel.takeEvent();
      if (queue === 0) return;
      for (const { link } of this.#attempts.values()) if (link?.queueAddress === queue) link.disarmed();
    }
  }

  #deviceEvents(device: DeviceInUse): void {
    for (let type = device.context.takeEvent(); type >= 0; type = device.context.takeEvent()) {
      const { name } = device.context;
      if (type === VERBS_LAYOUT.IBV_EVENT_PORT_ERR) this.#report(`RDMA device ${name}: its port went down`);
      if (type === VERBS_LAYOUT.IBV_EVENT_PORT_ACTIVE) this.#report(`RDMA device ${name}: its port is up`);
      if (type === VERBS_LAYOUT.IBV_EVENT_DEVICE_FATAL) return this.#died(device);
    }
  }

  /**
   * From now on nothing is asked of the device: librdmacm may close it when the last of its ids is gone. The descriptor of its
   * completion channel is lost with it.
   */
  #died(device: DeviceInUse): void {
    device.isDead = true;
    this.#report(`RDMA device ${device.context.name} has failed or was removed; its connections end`);
    const token = FIRST_DEVICE_TOKEN + 2 * this.#devices.indexOf(device);
    for (const each of [token, token + 1]) this.#reactor.cancel(this.#owner, each);
    for (const attempt of [...this.#attempts.values()]) {
      if (attempt.device === device) this.#lost(attempt, CloseReason.NO_DEVICE);
    }
  }

  /** The device of an id was removed. Each of its ids is told, and the device itself tells of it as well, in any order. */
  #removed(idAddress: number): void {
    const listener = this.#listeners.get(idAddress);
    const attempt = this.#attempts.get(idAddress);
    const id = listener?.id ?? attempt?.id ?? null;
    if (id === null) return;
    const device = this.#aliveAt(id.context);
    if (device !== undefined) this.#died(device);
    if (attempt !== undefined) this.#lost(attempt, CloseReason.NO_DEVICE);
    if (listener === undefined) return;
    this.#report(`The RDMA device of ${listener.address} is gone; it is listened on again when there is one`);
    this.#listeners.delete(idAddress);
    id.close();
    listener.id = null;
    this.#lostListeners.push(listener);
    this.#listenAgainLater();
  }

  /** Nobody tells when a device comes back, and nothing else may wake this worker: so it is tried now and then. */
  #listenAgainLater(): void {
    if (this.#isRelistening) return;
    this.#isRelistening = true;
    this.#reactor.delay(this.#owner, TOKEN_LISTENING, this.#relistenTime.address);
  }

  #listenAgain(): void {
    this.#lostListeners = this.#lostListeners.filter((listener) => listener.isOpen && !this.#takeUp(listener));
    if (this.#lostListeners.length > 0) this.#listenAgainLater();
  }

  #takeUp(listener: Listener): boolean {
    try {
      listener.id = this.#listenAt(rdmaAddress(listener.address).bytes);
    } catch {
      return false; // the device is not back yet
    }
    this.#listeners.set(listener.id.address, listener);
    this.#report(`RDMA is listened for on ${listener.address} again`);
    return true;
  }

  // ---- small things -----------------------------------------------------------------------------------------------

  #note(id: ConnectionId, user: LinkUser | null): Attempt {
    const attempt: Attempt = { id, user, link: null, device: null, isUp: false, offer: new Uint8Array(0) };
    this.#attempts.set(id.address, attempt);
    return attempt;
  }

  /** Ends an attempt that did not become a link. */
  #drop(attempt: Attempt): void {
    attempt.user = null;
    if (attempt.link !== null) {
      attempt.link.close(); // which forgets the attempt
    } else if (this.#forget(attempt)) {
      attempt.id.close();
    }
  }

  #forget(attempt: Attempt): boolean {
    attempt.link = null;
    return this.#attempts.delete(attempt.id.address);
  }

  #check(id: ConnectionId | number, what: string): ConnectionId {
    if (typeof id === "number") throw new Error(`Cannot ${what}: ${errnoName(id)}`);
    return id;
  }
}

function rdmaAddress(text: string): { bytes: Uint8Array<ArrayBuffer>; text: string } {
  const address = parseSocketAddress(text.replace(/^rdma:\/\//, ""));
  if (address.path !== "") throw new AddressError(`"${text}" is a path; RDMA needs HOST:PORT`);
  return address;
}
