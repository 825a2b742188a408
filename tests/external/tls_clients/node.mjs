// SPDX-License-Identifier: Apache-2.0
// usage: node node.mjs PORT CA CHAIN KEY PASSPHRASE CRL...
//
// Connects to an MQTT broker on localhost over mutual TLS.
import { readFileSync } from "node:fs";
import { connect } from "node:tls";

const [port, ca, cert, key, passphrase, ...crls] = process.argv.slice(2);
const broker = connect({
  host: "127.0.0.1",
  port: Number(port),
  servername: "localhost",
  ca: readFileSync(ca),
  cert: readFileSync(cert),
  key: readFileSync(key),
  passphrase: passphrase || undefined,
  // Of a file with several lists, Node reads the first.
  crl: crls.map((path) => readFileSync(path)),
});
broker.on("secureConnect", () => broker.write("\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x"));
broker.on("data", (data) => process.exit(data.toString("hex") === "20020000" ? 0 : 2));
broker.on("error", (error) => {
  console.log(error.message);
  process.exit(1);
});
broker.on("end", () => process.exit(1));
