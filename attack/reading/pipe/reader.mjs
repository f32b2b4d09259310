// A child process that says what JSON.parse makes of a message. Both ways it
// speaks frames: four bytes of length, big-endian, and as many bytes.
//
// It answers with one line of JSON for each of its views of the body:
//   utf8    Buffer.toString, which repairs what is no UTF-8
//   fetch   TextDecoder, as Request.json() does, which takes off a byte order mark
//   copied  the same after Object.assign, as many programs copy what they were sent
const BOM_STRIPPING = new TextDecoder();

const views = {
  utf8: (body) => JSON.parse(body.toString('utf8')),
  fetch: (body) => JSON.parse(BOM_STRIPPING.decode(body)),
  copied: (body) => {
    const message = Object.assign({}, JSON.parse(body.toString('utf8')));
    if (isObject(message.params)) message.params = Object.assign({}, message.params);
    return message;
  },
};

const isObject = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);

// tagged writes a value so that nothing of it is lost on the way: pairs in place
// of objects, and numbers as JavaScript spells them.
function tagged(v) {
  if (v === undefined) return undefined;
  if (v === null) return { z: true };
  switch (typeof v) {
    case 'string': return { s: v };
    case 'number': return { n: Object.is(v, -0) ? '-0' : String(v) };
    case 'boolean': return { b: v };
  }
  if (Array.isArray(v)) return { a: v.map(tagged) };
  return { o: Object.keys(v).map((name) => [name, tagged(v[name])]) };
}

function see(message) {
  if (!isObject(message)) return { refused: 'not an object' };
  const params = isObject(message.params) ? message.params : undefined;
  const ref = isObject(params?.ref) ? params.ref : undefined;
  return {
    method: tagged(message.method), id: tagged(message.id), result: tagged(message.result), error: tagged(message.error),
    params: tagged(message.params), name: tagged(params?.name), uri: tagged(params?.uri), arguments: tagged(params?.arguments),
    taskId: tagged(params?.taskId), refName: tagged(ref?.name), refURI: tagged(ref?.uri),
  };
}

function answer(body) {
  const out = {};
  for (const [name, view] of Object.entries(views)) {
    try {
      out[name] = see(view(body));
    } catch (error) {
      out[name] = { refused: String(error.message) };
    }
  }
  return Buffer.from(JSON.stringify(out));
}

let pending = Buffer.alloc(0);
process.stdin.on('data', (chunk) => {
  pending = Buffer.concat([pending, chunk]);
  while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
    const end = 4 + pending.readUInt32BE(0);
    const reply = answer(pending.subarray(4, end));
    pending = pending.subarray(end);
    const frame = Buffer.alloc(4);
    frame.writeUInt32BE(reply.length);
    process.stdout.write(Buffer.concat([frame, reply]));
  }
});
