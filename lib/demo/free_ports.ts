/**
 * Ports for storage nodes that come and go on one machine, as in a demonstration or a test.
 *
 * Not the ephemeral ports that the kernel gives out by itself: while a node is away, an outgoing connection of anybody could be given its
 * port, and the node could not come back.
 *
 * @module
 */

/** Below the ephemeral ports of Linux (32768 and up), above those of well-known services. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;

/** Ports of 127.0.0.1 nobody listens on. All are held at once before any is let go, so that they differ. */
export function freePorts(count: number): number[] {
  const listeners: Deno.Listener[] = [];
  try {
    for (let tries = 0; listeners.length < count; tries++) {
      const port = FIRST_PORT + Math.floor(Math.random() * PORT_COUNT);
      try {
        listeners.push(Deno.listen({ hostname: "127.0.0.1", port }));
      } catch (error) {
        if (!(error instanceof Deno.errors.AddrInUse) || tries > 100 * count) throw error;
      }
    }
    return listeners.map((listener) => (listener.addr as Deno.NetAddr).port);
  } finally {
    for (const listener of listeners) listener.close();
  }
}
