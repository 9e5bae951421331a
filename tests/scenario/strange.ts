/**
 * Commands of scenarios for what comes from outside of the protocol: see scenario.ts.
 *
 * @module
 */

import { RequestKind } from "../../lib/frontend/frontend.ts";
import { Message } from "../../lib/wire/message.ts";
import { forge, readForgery } from "../sim/forgery.ts";
import { rotMaps } from "../sim/faults.ts";
import type { Process } from "../sim/process.ts";
import { install, suspend, visit } from "../sim/strange_faults.ts";
import type { World } from "../sim/world.ts";

/** Words of these commands. */
export const STRANGE_COMMANDS = new Set([
  ...["stranger", "forge", "garble", "fill", "make-room", "rot-maps", "suspend", "wall-clock", "install", "ask"],
]);

/** Carries one of them out. */
export function obeyStrange(world: World, words: readonly string[], processOf: (name: string) => Process): void {
  const { network } = world;
  switch (words[0]) {
    case "stranger":
      return visit(world, words[1], words[3]);
    case "forge":
      return sendForged(world, words, processOf);
    case "garble":
      network.garblings.push({
        ...readForgery(words.slice(3)),
        from: processOf(words[1]),
        to: processOf(words[2]),
      });
      return;
    case "fill":
    case "make-room":
      world.legs.find((leg) => leg.name === words[1])!.disk.isFull = words[0] === "fill";
      return;
    case "rot-maps":
      return rotMaps(world, world.legs.find((leg) => leg.name === words[1])!);
    case "suspend":
      return suspend(world, processOf(words[1]), Number(words[2]));
    case "wall-clock":
      processOf(words[1]).wallErrorMs = Number(words[2]);
      return;
    case "install":
      return install(world, processOf(words[1]), words[2]);
    case "ask": {
      // What no frontend lets through.
      const client = [...world.clients, ...world.readers].find(({ name }) => name === words[words.indexOf("by") + 1]) ??
        world.client;
      const [first, count] = words[2].split("+").map(Number);
      const kind = words[1] === "read" ? RequestKind.READ : RequestKind.WRITE_ZEROES;
      client.submit(world.application.begin(client, kind, 0, first, count));
      return;
    }
  }
}

/** `forge FROM TO [N times] TYPE [field=value]...` */
function sendForged(world: World, words: readonly string[], processOf: (name: string) => Process): void {
  const times = words[4] === "times" ? Number(words[3]) : 1;
  const forgery = readForgery(words.slice(words[4] === "times" ? 5 : 3));
  const connection = world.network.between(processOf(words[1]), processOf(words[2]));
  if (connection < 0) throw new Error(`${words[1]} has no connection to ${words[2]}`);
  for (let i = 0; i < times; i++) {
    const message = new Message();
    message.type = forgery.type;
    const body = forge(message, null, forgery);
    world.network.send(connection, message, null, body, false);
  }
}
