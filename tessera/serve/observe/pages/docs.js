"use strict";
// Everything that comes from the server is put in as text, never as markup.
const at = (id) => document.getElementById(id);
const make = (kind, text, name) => {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
};
const key = () => (at("key").value ? { Authorization: `Bearer ${at("key").value}` } : {});
function example(schema) {
  if (!schema || schema === true) return {};
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.oneOf || schema.anyOf) return example((schema.oneOf || schema.anyOf)[0]);
  const kind = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (kind === "object") {
    return Object.fromEntries((schema.required || []).map((name) => [name, example(schema.properties[name])]));
  }
  if (kind === "array") {
    if (schema.prefixItems) return schema.prefixItems.map(example);
    return Array.from({ length: Math.min(schema.minItems || 0, 64) }, () => example(schema.items));
  }
  return { number: 0.5, integer: 1, boolean: true, string: "" }[kind] ?? null;
}
function compact(value) {
  // Arrays of plain values stay on one line.
  return JSON.stringify(value, null, 1).replace(/\[\s+([^[\]{}]*?)\s+\]/g, (_, inside) => `[${inside.replace(/\s+/g, " ")}]`);
}
function operation(path, method, said) {
  const box = make("details"), title = make("summary");
  title.append(make("code", method.toUpperCase()), make("code", path), make("span", said.summary || ""));
  box.append(title);
  if (said.description) box.append(make("pre", said.description));
  const fields = (said.parameters || []).map((parameter) => {
    const label = make("label", `${parameter.name} `), field = make("input");
    field.value = example(parameter.schema);
    label.append(field);
    box.append(label);
    return [parameter.name, field];
  });
  let body = null;
  const content = said.requestBody && said.requestBody.content["application/json"];
  if (content) {
    body = make("textarea");
    body.setAttribute("aria-label", "body");
    body.value = compact(example(content.schema));
    box.append(body);
  }
  const button = make("button", "Send"), answer = make("pre");
  answer.hidden = true;
  button.addEventListener("click", async () => {
    let url = path;
    for (const [name, field] of fields) url = url.replace(`{${name}}`, encodeURIComponent(field.value));
    const headers = key();
    if (body) headers["Content-Type"] = "application/json";
    const began = performance.now();
    try {
      const found = await fetch(url.replace(/^\//, ""), { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
      const text = await found.text(), took = (performance.now() - began).toFixed(1);
      answer.className = found.ok ? "" : "bad";
      answer.textContent = `${found.status} ${found.statusText}, ${took} ms\n\n${text.slice(0, 100000)}`;
    } catch (error) {
      answer.textContent = `No answer: ${error.message}`;
    }
    answer.hidden = false;
  });
  box.append(make("p"), button, answer);
  return box;
}
async function start() {
  try {
    const found = await fetch("openapi.json", { headers: key() });
    if (!found.ok) throw new Error(`the server answered ${found.status}`);
    at("problem").hidden = true;
    at("operations").replaceChildren();
    const said = await found.json();
    at("title").textContent = said.info.title;
    document.title = said.info.title;
    const all = Object.entries(said.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, each]) => [path, method, each]));
    for (const tag of ["inference", "endpoints", "server"]) {
      const chosen = all.filter(([, , each]) => (each.tags || []).includes(tag));
      if (!chosen.length) continue;
      at("operations").append(make("h2", tag), ...chosen.map((each) => operation(...each)));
    }
    const first = at("operations").querySelector("details");
    if (first) first.open = true;
  } catch (error) {
    at("problem").textContent = `The document cannot be read: ${error.message}`;
    at("problem").hidden = false;
  }
}
at("key").addEventListener("change", start);
start();
