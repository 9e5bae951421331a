/**
 * Ports for storage nodes that come and go on one machine, as in a demonstration or a test.
 *
 * Not the ephemeral ports that the kernel gives out by itself: while a node is away, an outgoing connection of anybody could be given its
 * port, and the node could not come back. For the same reason nobody who reserves ports here is given one whose node is away: each
 * reserved port is even, and the odd one above it is listened on for as long as the reservation holds.
 *
 * @module
 */

/** Below the ephemeral ports of Linux (32768 and up), above those of well-known services. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;

/** Ports of 127.0.0.1 that nobody listens on; nobody else is given them before {@link release}. */
export class ReservedPorts implements Disposable {
  readonly ports: readonly number[];
  readonly #guards: readonly Deno.Listener[];

  /**
   * Reserves `count` ports.
   * @throws Deno.errors.AddrInUse when none is to be found
   */
  constructor(count: number) {
    const guards: Deno.Listener[] = [];
    try {
      for (let tries = 0; guards.length < count; tries++) {
        const port = FIRST_PORT + 2 * Math.floor(Math.random() * PORT_COUNT / 2);
        try {
          guards.push(guardOf(port));
        } catch (error) {
          if (!(error instanceof Deno.errors.AddrInUse) || tries > 100 * count) throw error;
        }
      }
    } catch (error) {
      for (const guard of guards) guard.close();
      throw error;
    }
    this.#guards = guards;
    this.ports = guards.map(({ addr }) => (addr as Deno.NetAddr).port - 1);
  }

  release(): void {
    for (const guard of this.#guards) guard.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Listens above `port`, on which somebody else could listen now. */
function guardOf(port: number): Deno.Listener {
  const guard = listenOn(port + 1);
  try {
    listenOn(port).close();
    return guard;
  } catch (error) {
    guard.close();
    throw error;
  }
}

function listenOn(port: number): Deno.Listener {
  return Deno.listen({ hostname: "127.0.0.1", port });
}
