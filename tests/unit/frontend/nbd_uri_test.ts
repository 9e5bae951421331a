import { strictEqual } from "node:assert/strict";
import { nbdUri } from "../../../lib/frontend/nbd_uri.ts";
import { parseSocketAddress } from "../../../lib/io/socket_address.ts";

Deno.test("URIs name socket and export, with what is special encoded", () => {
  const uri = (address: string, bound: string, name: string) => nbdUri(parseSocketAddress(address), bound, name);
  strictEqual(uri("/run/vol1.sock", "/run/vol1.sock", "vol1"), "nbd+unix:///vol1?socket=/run/vol1.sock");
  strictEqual(uri("/run/a b&c.sock", "", "p/q ?"), "nbd+unix:///p%2Fq%20%3F?socket=/run/a%20b%26c.sock");
  strictEqual(uri("127.0.0.1:0", "127.0.0.1:40001", "vol1"), "nbd://127.0.0.1:40001/vol1");
  strictEqual(uri("[::1]:10809", "[::1]:10809", ""), "nbd://[::1]:10809/");
});
