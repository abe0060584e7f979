/* What every page of ours does with its document; text is put in as text, never as markup. */
const byId = (id) => document.getElementById(id);

function put(parent, name, text, ...classes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  parent.append(made);
  return made;
}

function draw(parent, name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

