/** The worker of the mailbox test: a reactor loop that never returns to its event loop until told to stop. */

import { MailboxReceiver } from "../../../lib/io/mailbox.ts";
import type { MailboxPort } from "../../../lib/io/mailbox.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";

self.onmessage = (event: MessageEvent<MailboxPort>) => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  let stopped = false;
  const receiver = new MailboxReceiver(event.data, reactor, (value) => {
    const message = value as { op: string; value?: unknown };
    if (message.op === "stop") stopped = true;
    else self.postMessage(message);
  });
  while (!stopped) reactor.turn(Infinity);
  receiver.close();
  while (reactor.inFlightCount > 0) reactor.turn(Infinity);
  reactor.dispose();
  self.postMessage({ op: "stopped" });
};
