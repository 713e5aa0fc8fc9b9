// A small viewer of GLB files: triangles with normals, a texture or colours of vertices, turned by pointer and keyboard.

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec2 uv; in vec4 colour;
uniform mat4 camera; uniform mat4 model;
out vec3 n; out vec2 t; out vec4 c;
void main() {
  n = mat3(model) * normal; t = uv; c = colour;
  gl_Position = camera * model * vec4(position, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec2 t; in vec4 c;
uniform sampler2D image; uniform vec4 factor; uniform vec3 light;
out vec4 shown;
void main() {
  vec3 albedo = texture(image, t).rgb * factor.rgb * c.rgb;
  vec3 m = normalize(n);
  float sky = 0.5 + 0.5 * m.y, sun = max(dot(m, light), 0.0);
  vec3 seen = albedo * (0.35 + 0.35 * sky + 0.55 * sun);
  shown = vec4(pow(min(seen, 1.0), vec3(1.0 / 2.2)), 1.0);
}`;
const KINDS = { 5120: Int8Array, 5121: Uint8Array, 5122: Int16Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

// Matrices are lists of 16 numbers, column by column, as in glTF.
function times(a, b) {
  return IDENTITY.map((_, at) => [0, 1, 2, 3].reduce((sum, k) => sum + a[4 * k + (at % 4)] * b[4 * Math.floor(at / 4) + k], 0));
}

function perspective(angle, aspect, near, far) {
  const f = 1 / Math.tan(angle / 2);
  return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0];
}

function around(centre, distance, azimuth, elevation) {
  const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
  const right = [ca, 0, -sa], up = [-sa * se, ce, -ca * se], back = [sa * ce, se, ca * ce];
  const along = (axis) => -axis.reduce((sum, each, at) => sum + each * centre[at], 0);
  return [right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0, along(right), along(up), along(back) - distance, 1];
}

function local(node) {
  if (node.matrix) return node.matrix;
  const [x, y, z, w] = node.rotation ?? [0, 0, 0, 1], [a, b, c] = node.scale ?? [1, 1, 1], [u, v, r] = node.translation ?? [0, 0, 0];
  return [
    a * (1 - 2 * (y * y + z * z)), a * 2 * (x * y + z * w), a * 2 * (x * z - y * w), 0,
    b * 2 * (x * y - z * w), b * (1 - 2 * (x * x + z * z)), b * 2 * (y * z + x * w), 0,
    c * 2 * (x * z + y * w), c * 2 * (y * z - x * w), c * (1 - 2 * (x * x + y * y)), 0, u, v, r, 1,
  ];
}

export function parse(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 20 || view.getUint32(0, true) !== 0x46546c67) throw new Error("this is no GLB file");
  let at = 12, json = null, bin = new ArrayBuffer(0);
  while (at + 8 <= buffer.byteLength) {
    const length = view.getUint32(at, true), kind = view.getUint32(at + 4, true);
    if (kind === 0x4e4f534a) json = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at + 8, length)));
    if (kind === 0x004e4942) bin = buffer.slice(at + 8, at + 8 + length);
    at += 8 + length;
  }
  if (!json) throw new Error("the GLB file says nothing of itself");
  return { json, bin };
}

export function read({ json, bin }, index) {
  const accessor = json.accessors[index], part = json.bufferViews[accessor.bufferView], Kind = KINDS[accessor.componentType];
  const width = WIDTHS[accessor.type], start = (part.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
  const stride = part.byteStride ?? width * Kind.BYTES_PER_ELEMENT;
  if (stride === width * Kind.BYTES_PER_ELEMENT) return new Kind(bin.slice(start, start + accessor.count * stride));
  const values = new Kind(accessor.count * width);
  for (let row = 0; row < accessor.count; row++) values.set(new Kind(bin.slice(start + row * stride, start + row * stride + width * Kind.BYTES_PER_ELEMENT)), row * width);
  return values;
}

export function placed(glb) {
  const { json } = glb, found = [];
  const visit = (index, above) => {
    const node = json.nodes[index], model = times(above, local(node));
    if (node.mesh !== undefined) for (const primitive of json.meshes[node.mesh].primitives) found.push({ primitive, model });
    for (const child of node.children ?? []) visit(child, model);
  };
  for (const root of json.scenes[json.scene ?? 0].nodes) visit(root, IDENTITY);
  return found.filter(({ primitive }) => (primitive.mode ?? 4) === 4);
}

function flat(positions, indices) {
  const normals = new Float32Array(positions.length);
  for (let at = 0; at < indices.length; at += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => 3 * indices[at + k]);
    const u = [0, 1, 2].map((k) => positions[b + k] - positions[a + k]), v = [0, 1, 2].map((k) => positions[c + k] - positions[a + k]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) normals[corner + k] += n[k];
  }
  return normals;
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "its shaders do not compile");
  return made;
}

async function texture(gl, glb, material) {
  const made = gl.createTexture(), which = material?.pbrMetallicRoughness?.baseColorTexture?.index;
  gl.bindTexture(gl.TEXTURE_2D, made);
  if (which === undefined) {
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([255, 255, 255, 255]));
  } else {
    const image = glb.json.images[glb.json.textures[which].source], part = glb.json.bufferViews[image.bufferView];
    const bytes = glb.bin.slice(part.byteOffset ?? 0, (part.byteOffset ?? 0) + part.byteLength);
    const bitmap = await createImageBitmap(new Blob([bytes], { type: image.mimeType }), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  }
  return made;
}

async function upload(gl, shader, glb, { primitive, model }) {
  const positions = read(glb, primitive.attributes.POSITION), count = positions.length / 3;
  const indices = primitive.indices === undefined ? Uint32Array.from({ length: count }, (_, at) => at) : Uint32Array.from(read(glb, primitive.indices));
  const given = { position: [positions, 3], normal: [primitive.attributes.NORMAL === undefined ? flat(positions, indices) : read(glb, primitive.attributes.NORMAL), 3] };
  if (primitive.attributes.TEXCOORD_0 !== undefined) given.uv = [read(glb, primitive.attributes.TEXCOORD_0), 2];
  if (primitive.attributes.COLOR_0 !== undefined) {
    const values = read(glb, primitive.attributes.COLOR_0), most = values instanceof Float32Array ? 1 : values instanceof Uint8Array ? 255 : 65535;
    given.colour = [Float32Array.from(values, (each) => each / most), values.length / count];
  }
  const image = await texture(gl, glb, glb.json.materials?.[primitive.material]);
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  for (const [name, [values, width]] of Object.entries(given)) {
    const place = gl.getAttribLocation(shader, name);
    if (place < 0) continue;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, gl.FLOAT, false, 0, 0);
  }
  if (!given.colour) gl.vertexAttrib4f(gl.getAttribLocation(shader, "colour"), 1, 1, 1, 1);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  const factor = glb.json.materials?.[primitive.material]?.pbrMetallicRoughness?.baseColorFactor ?? [1, 1, 1, 1];
  return { array, image, model, factor, size: indices.length, positions };
}

function extent(parts) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const { positions, model } of parts) {
    for (let at = 0; at < positions.length; at += 3) {
      for (let k = 0; k < 3; k++) {
        const value = model[k] * positions[at] + model[4 + k] * positions[at + 1] + model[8 + k] * positions[at + 2] + model[12 + k];
        low[k] = Math.min(low[k], value);
        high[k] = Math.max(high[k], value);
      }
    }
  }
  return { centre: low.map((each, k) => (each + high[k]) / 2), radius: Math.hypot(...low.map((each, k) => high[k] - each)) / 2 || 1 };
}

/** Show the GLB file at `url` on `canvas`. Returns a function that ends it. Throws where it cannot be shown. */
export async function show(canvas, url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const glb = parse(await answer.arrayBuffer());
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) throw new Error("this browser has no WebGL 2");
  const shader = program(gl), parts = [];
  for (const each of placed(glb)) parts.push(await upload(gl, shader, glb, each));
  if (!parts.length) throw new Error("there are no triangles in it");
  const { centre, radius } = extent(parts);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const home = { azimuth: 0.6, elevation: 0.35, distance: 2.7 };
  const eye = { ...home };
  let turning = !calm, frame = 0, last = null;

  function draw(now) {
    frame = 0;
    if (turning && last !== null) eye.azimuth += (now - last) / 4000;
    last = now;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight].map((each) => Math.max(1, Math.round(each * Math.min(2, devicePixelRatio))));
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    gl.viewport(0, 0, wide, high);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(shader);
    const lens = perspective(0.75, wide / high, 0.02 * radius, 40 * radius);
    const camera = times(lens, around(centre, eye.distance * radius, eye.azimuth, eye.elevation));
    const [sa, ca] = [Math.sin(eye.azimuth + 0.5), Math.cos(eye.azimuth + 0.5)];
    gl.uniformMatrix4fv(gl.getUniformLocation(shader, "camera"), false, camera);
    gl.uniform3f(gl.getUniformLocation(shader, "light"), 0.7 * sa, 0.714, 0.7 * ca);
    for (const part of parts) {
      gl.uniformMatrix4fv(gl.getUniformLocation(shader, "model"), false, part.model);
      gl.uniform4fv(gl.getUniformLocation(shader, "factor"), part.factor);
      gl.bindTexture(gl.TEXTURE_2D, part.image);
      gl.bindVertexArray(part.array);
      gl.drawElements(gl.TRIANGLES, part.size, gl.UNSIGNED_INT, 0);
    }
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
    if (turning) ask();
  }
  const ask = () => { frame ||= requestAnimationFrame(draw); };

  function turn(right, up, nearer = 1) {
    turning = false;
    eye.azimuth -= right;
    eye.elevation = Math.min(1.5, Math.max(-1.5, eye.elevation + up));
    eye.distance = Math.min(12, Math.max(1.2, eye.distance / nearer));
    ask();
  }
  const keys = {
    ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, 0.12], ArrowDown: [0, -0.12],
    "+": [0, 0, 1.15], "=": [0, 0, 1.15], "-": [0, 0, 1 / 1.15],
  };
  canvas.onkeydown = (event) => {
    if (event.key === "0" || event.key === "Home") { Object.assign(eye, home); turn(0, 0); }
    else if (keys[event.key]) turn(...keys[event.key]);
    else return;
    event.preventDefault();
  };
  canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); turn(0, 0); };
  canvas.onpointermove = (event) => { if (event.buttons) turn(event.movementX * 0.008, event.movementY * 0.008); };
  canvas.onwheel = (event) => { event.preventDefault(); turn(0, 0, Math.exp(-event.deltaY * 0.001)); };
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  const resized = new ResizeObserver(ask);
  resized.observe(canvas);
  ask();
  return () => {
    cancelAnimationFrame(frame);
    turning = false;
    resized.disconnect();
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  };
}
