/**
 * What the log is told when a connection has to be closed.
 *
 * @module
 */

/** What a text names of a connection. */
interface Named {
  readonly id: number;
  readonly peerAddress: string;
}

/** A frame broke the rules: `what` says which. */
export function refusedFrameText({ id, peerAddress }: Named, type: number, what: string): string {
  return `Connection ${id} (${peerAddress}) is closed: a frame of type ${type} was refused, ${what}`;
}

/** More waits to be sent than may: the peer does not take what it gave credit for. */
export function overflowText({ id, peerAddress }: Named, queuedBytes: number, maxQueuedBytes: number): string {
  return `Connection ${id} (${peerAddress}) is closed: ${queuedBytes} bytes wait to be sent and the most is ` +
    `${maxQueuedBytes}; the peer takes too little`;
}
