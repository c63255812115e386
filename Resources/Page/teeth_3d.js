// The 3D view of the report page. In go the data that teeth_3d.py lays beside it and THREE (three.js, inside the page);
// the page asks nothing of any network. Positions are LPS mm: +x is the patient's left, +y the back, +z up.
"use strict";
(() => {
  const section = document.getElementById("teeth-3d");
  const data = JSON.parse(document.getElementById("teeth-3d-data").textContent);
  const stage = section.querySelector(".stage");
  const canvas = section.querySelector("canvas");
  const tip = section.querySelector(".tip");
  const chosenLine = section.querySelector(".chosen");
  const VIEWS = { front: [0, 0], right: [90, 0], left: [-90, 0], above: [0, 89.9], below: [0, -89.9] };
  const FOV = 28;
  const CLICK_PIXELS = 6; // a pointer that moved farther turned the view
  const CHOSEN = 0x1f7ae0;
  const FADED = 0xc9ced6;
  let renderer;
  try {
    // What has been drawn is kept, so that the view is on paper, too.
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
  } catch (error) {
    section.classList.add("without");
    return;
  }
  section.classList.add("ready");
  document.documentElement.classList.add("with-3d");

  // ---- the scene

  const numbers = (Type, text) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

  function meshOf(tooth) {
    const geometry = new THREE.BufferGeometry();
    const places = Float32Array.from(numbers(Uint16Array, tooth.vertices), (q, i) => data.low[i % 3] + q * data.step);
    geometry.setAttribute("position", new THREE.BufferAttribute(places, 3));
    geometry.setIndex(new THREE.BufferAttribute(numbers(Uint16Array, tooth.triangles), 1));
    geometry.computeVertexNormals();
    geometry.computeBoundingSphere();
    const material = new THREE.MeshPhongMaterial({ color: tooth.colour, specular: 0x222222, shininess: 30 });
    const mesh = new THREE.Mesh(geometry, material);
    mesh.userData = tooth;
    return mesh;
  }

  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0xeef1f5);
  const meshes = data.teeth.map(meshOf);
  scene.add(...meshes);
  const camera = new THREE.PerspectiveCamera(FOV, 1, 1, 2000);
  camera.up.set(0, 0, 1);
  const lamp = new THREE.DirectionalLight(0xffffff, 0.7);
  scene.add(new THREE.HemisphereLight(0xffffff, 0xb9b4aa, 0.6), lamp);
  const marker = new THREE.Mesh(
    new THREE.SphereGeometry(0.9, 20, 14),
    new THREE.MeshBasicMaterial({ color: 0xff8a00, transparent: true, opacity: 0.75, depthTest: false }),
  );
  marker.renderOrder = 1;
  scene.add(marker);
  const whole = new THREE.Box3();
  meshes.forEach((mesh) => whole.expandByObject(mesh));
  const centre = whole.getCenter(new THREE.Vector3());

  function letter(text, x) {
    const drawing = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
    const pen = drawing.getContext("2d");
    Object.assign(pen, { font: "600 52px sans-serif", textAlign: "center", textBaseline: "middle", fillStyle: "#4a5260" });
    pen.fillText(text, 32, 34);
    const map = new THREE.CanvasTexture(drawing);
    const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map, sizeAttenuation: false, depthWrite: false }));
    sprite.position.set(x, centre.y, centre.z);
    sprite.scale.setScalar(0.035);
    return sprite;
  }
  scene.add(letter("R", whole.min.x - 5), letter("L", whole.max.x + 5)); // the patient's sides

  const state = { yaw: 0, pitch: 0, distance: 100, target: new THREE.Vector3(), jaw: "both", chosen: [] };

  function draw() {
    const yaw = (state.yaw * Math.PI) / 180;
    const pitch = (state.pitch * Math.PI) / 180;
    const away = new THREE.Vector3(-Math.sin(yaw) * Math.cos(pitch), -Math.cos(yaw) * Math.cos(pitch), Math.sin(pitch));
    camera.position.copy(state.target).addScaledVector(away, state.distance);
    camera.lookAt(state.target);
    camera.updateMatrixWorld();
    lamp.position.copy(camera.localToWorld(new THREE.Vector3(-0.35, 0.5, 0).multiplyScalar(state.distance)));
    lamp.target.position.copy(state.target);
    lamp.target.updateMatrixWorld();
    renderer.render(scene, camera);
  }

  function frame(some) {
    const box = new THREE.Box3();
    some.forEach((mesh) => box.expandByObject(mesh));
    const ball = box.getBoundingSphere(new THREE.Sphere());
    const half = Math.atan(Math.tan((FOV * Math.PI) / 360) * Math.min(1, camera.aspect));
    state.target.copy(ball.center);
    // The arch is far from filling its ball.
    state.distance = (0.8 * Math.max(ball.radius, 12)) / Math.sin(half);
  }

  const visible = () => meshes.filter((mesh) => mesh.visible);

  function fit() {
    const { clientWidth: width, clientHeight: height } = stage;
    renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
  }

  // ---- what is chosen

  function choose(teeth, words, place) {
    state.chosen = teeth;
    section.dataset.chosen = teeth.join(" ");
    for (const mesh of meshes) {
      const named = teeth.includes(mesh.userData.fdi);
      const faded = (teeth.length > 0 || place) && !named;
      mesh.visible = named || state.jaw === "both" || state.jaw === mesh.userData.jaw;
      mesh.material.color.set(named ? CHOSEN : faded ? FADED : mesh.userData.colour);
      Object.assign(mesh.material, { transparent: faded, opacity: faded ? 0.28 : 1, depthWrite: !faded });
      mesh.material.needsUpdate = true;
    }
    marker.visible = Boolean(place);
    if (place) marker.position.set(...place);
    document.querySelectorAll(".chart [data-tooth]").forEach((drawn) => {
      drawn.classList.toggle("chosen", teeth.includes(Number(drawn.dataset.tooth)));
    });
    const named = meshes.filter((mesh) => teeth.includes(mesh.userData.fdi));
    frame(named.length ? named : visible());
    if (named.length) state.distance *= 2; // the neighbours belong into the picture
    else if (place) state.target.set(...place);
    if (teeth.length || place) fromOutside(state.target);
    tell(teeth, words);
    draw();
  }

  function fromOutside(place) {
    if (Math.abs(state.pitch) > 60) return; // who looks at the biting surfaces goes on doing so
    state.yaw = (Math.atan2(centre.x - place.x, centre.y - place.y) * 180) / Math.PI;
  }

  function tell(teeth, words) {
    const tooth = data.teeth.find((one) => one.fdi === teeth[0]);
    chosenLine.textContent = words || (tooth ? tooth.words : chosenLine.dataset.hint);
    if (tooth && tooth.link && teeth.length === 1) {
      const link = document.createElement("a");
      link.href = `#${tooth.link}`;
      link.textContent = tooth.link.startsWith("finding") ? "its finding" : "its measurements";
      chosenLine.append(" · ", link);
    }
  }

  function show(jaw) {
    state.jaw = jaw;
    section.querySelectorAll("[data-jaw]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.jaw === jaw));
    });
    choose([]);
  }

  // ---- pointers, wheel, keys and buttons

  function under(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const at = new THREE.Vector2((2 * (event.clientX - left)) / width - 1, 1 - (2 * (event.clientY - top)) / height);
    const ray = new THREE.Raycaster();
    ray.setFromCamera(at, camera);
    const hit = ray.intersectObjects(visible())[0];
    return hit && hit.object.userData;
  }

  function point(event) {
    const tooth = under(event);
    tip.hidden = !tooth;
    if (!tooth) return;
    tip.textContent = tooth.words;
    const { left, top, width } = canvas.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX - left + 12, Math.max(width - tip.offsetWidth - 4, 0))}px`;
    tip.style.top = `${Math.max(event.clientY - top - tip.offsetHeight - 8, 4)}px`;
  }

  function zoom(factor) {
    state.distance = Math.min(Math.max(state.distance * factor, 15), 900);
    draw();
  }

  function turn(right, up) {
    state.yaw += right;
    state.pitch = Math.min(Math.max(state.pitch + up, -89.9), 89.9);
    draw();
  }

  function shift(right, down) {
    const scale = (2 * state.distance * Math.tan((FOV * Math.PI) / 360)) / stage.clientHeight;
    const axis = (n) => new THREE.Vector3().setFromMatrixColumn(camera.matrixWorld, n);
    state.target.addScaledVector(axis(0), -right * scale).addScaledVector(axis(1), down * scale);
    draw();
  }

  const pointers = new Map();
  let moved = 0;
  const middle = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = pointers.size > 1 ? CLICK_PIXELS + 1 : 0;
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return point(event);
    const before = pointers.size === 2 && middle();
    const [right, down] = [event.clientX - last.x, event.clientY - last.y];
    moved += Math.abs(right) + Math.abs(down);
    Object.assign(last, { x: event.clientX, y: event.clientY });
    if (before) {
      const after = middle();
      shift(after.x - before.x, after.y - before.y);
      zoom(before.apart / Math.max(after.apart, 1));
    } else if (event.buttons === 2 || event.shiftKey) shift(right, down);
    else turn(0.4 * right, 0.4 * down);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.delete(event.pointerId) && moved <= CLICK_PIXELS) {
      const tooth = under(event);
      choose(tooth ? [tooth.fdi] : []);
    }
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return; // the page scrolls until the view has been clicked
    event.preventDefault();
    zoom(Math.exp(0.0012 * event.deltaY));
  });
  const KEYS = {
    ArrowLeft: () => turn(-10, 0), ArrowRight: () => turn(10, 0), ArrowUp: () => turn(0, 10),
    ArrowDown: () => turn(0, -10), "+": () => zoom(0.85), "-": () => zoom(1.18), Escape: () => choose([]),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  function look(view) {
    [state.yaw, state.pitch] = VIEWS[view];
    draw();
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-jaw], [data-view], [data-zoom], [data-all], [data-tooth], [data-teeth]");
    if (!button) return;
    const { jaw, view, zoom: factor, tooth, teeth, words, place } = button.dataset;
    if (jaw) return show(jaw);
    if (view) return look(view);
    if (factor) return zoom(Number(factor));
    event.preventDefault();
    if (tooth) choose([Number(tooth)], button.querySelector("title")?.textContent.split("\n")[0]);
    else if (teeth !== undefined) choose(JSON.parse(teeth), words, place && JSON.parse(place));
    else return choose([]);
    section.scrollIntoView({ block: "nearest" });
  });

  new ResizeObserver(() => {
    fit();
    draw();
  }).observe(stage);
  fit();
  show("both");
})();
