// What pages do beyond links and forms; they can be read without it.
(() => {
  "use strict";
  const root = document.documentElement;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const on = (type, selector, act, options) =>
    document.addEventListener(type, (event) => {
      const found = event.target.closest?.(selector);
      if (found) act(event, found);
    }, options);
  const remember = (name, value) => {
    document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  };
  const typing = (element) => element.matches?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");

  // -- Looks: theme, density, sidebar ---------------------------------------------------------------------
  document.addEventListener("change", ({ target }) => {
    if (target.name === "po_theme") root.dataset.bsTheme = target.value;
    else if (target.name === "po_density") target.value === "normal" ? delete root.dataset.density : (root.dataset.density = target.value);
    else return;
    remember(target.name, target.value);
  });
  on("change", "[data-keys-switch]", (_, box) => {
    root.dataset.keys = box.checked ? "on" : "off";
    remember("po_keys", root.dataset.keys);
  });
  const toggleRail = () => {
    const rail = root.dataset.sidebar !== "rail";
    rail ? (root.dataset.sidebar = "rail") : delete root.dataset.sidebar;
    remember("po_sidebar", rail ? "rail" : "full");
  };

  on("click", "[data-rail]", toggleRail);

  // -- An open page keeps up while somebody sees it -------------------------------------------------------
  let looked = Date.now();
  const look = () => {
    if (document.hidden || Date.now() - looked < 30_000) return;
    looked = Date.now();
    $$("[data-look]").forEach((one) => htmx.trigger(one, "look"));
  };
  setInterval(look, 5_000);
  document.addEventListener("visibilitychange", look);

  // -- Drawer ---------------------------------------------------------------------------------------------
  const drawer = (open) => {
    const button = $("[data-drawer-toggle]");
    if (!button || open === root.hasAttribute("data-drawer")) return;
    root.toggleAttribute("data-drawer", open);
    button.setAttribute("aria-expanded", open);
    open ? $("#po-side a")?.focus() : button.focus();
  };
  on("click", "[data-drawer-toggle]", (event) => { event.preventDefault(); drawer(!root.hasAttribute("data-drawer")); });
  on("click", "[data-drawer-close]", (event) => { event.preventDefault(); drawer(false); });
  // What looks like a button or a box to tick is pressed as one.
  on("keydown", "[role=button]:not(summary, button), a.po-facet-item", (event, button) => {
    if (event.key === " ") { event.preventDefault(); button.click(); }
  });

  // -- Menus: <details class="po-menu"> ---------------------------------------------------------------------
  const closeMenus = (except) => $$("details.po-menu[open]").forEach((menu) => { if (!menu.contains(except)) menu.open = false; });
  document.addEventListener("click", (event) => closeMenus(event.target));
  on("keydown", "details.po-menu", (event, menu) => {
    if (event.key === "Escape" && menu.open) {
      menu.open = false;
      $("summary", menu).focus();
      event.stopPropagation();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (event.target.matches("input")) return;
      const items = $$(".po-item:is(a, button), .po-menu-list a", menu);
      if (!items.length) return;
      event.preventDefault();
      menu.open = true;
      const step = event.key === "ArrowDown" ? 1 : -1;
      const at = items.indexOf(document.activeElement);
      items[(at < 0 ? (step > 0 ? 0 : items.length - 1) : at + step + items.length) % items.length].focus();
    }
  });

  // -- Tooltips, exact times, cards of entities -------------------------------------------------------------
  const floating = (css, role) => {
    const box = document.createElement("div");
    box.className = css;
    box.popover = "manual";
    if (role) box.role = role;
    document.body.append(box);
    return box;
  };
  const place = (box, anchor) => {
    box.showPopover();
    const at = anchor.getBoundingClientRect();
    const left = Math.min(at.left, innerWidth - box.offsetWidth - 8);
    const below = at.bottom + 6;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${below + box.offsetHeight > innerHeight ? Math.max(8, at.top - box.offsetHeight - 6) : below}px`;
  };
  let tip, tipped, card, cardTimer;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  remember("po_zone", zone); // pages come with the times of this clock
  const exact = (time) => {
    const moment = new Date(time.dateTime);
    const local = moment.toLocaleString(root.lang || undefined, { dateStyle: "medium", timeStyle: "medium" });
    return `${local} ${zone}\n${moment.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  };
  const hideTip = () => { if (tip?.matches(":popover-open")) tip.hidePopover(); tipped?.removeAttribute("aria-describedby"); tipped = null; };
  const showTip = (target) => {
    const anchor = target.closest?.("time[datetime], [data-tip], [data-rail-tip]");
    if (!anchor) return hideTip();
    if (anchor === tipped) return;
    hideTip();
    let text = anchor.dataset.tip;
    if (anchor.matches("time")) { text = exact(anchor); anchor.removeAttribute("title"); }
    if (anchor.dataset.railTip && ($(".po-rail-hidden", anchor)?.offsetWidth ?? 9) < 2) text = anchor.dataset.railTip;
    if (!text) return;
    tip ??= floating("po-tip", "tooltip");
    tip.id = "po-tip";
    tip.textContent = text;
    tipped = anchor;
    anchor.setAttribute("aria-describedby", "po-tip");
    place(tip, anchor);
  };
  const hideCard = () => { clearTimeout(cardTimer); if (card?.matches(":popover-open")) card.hidePopover(); };
  const showCard = (target) => {
    if (card?.contains(target)) return;
    hideCard();
    const anchor = target.closest?.("[data-card]");
    if (!anchor) return;
    cardTimer = setTimeout(async () => {
      const answer = await fetch(anchor.dataset.card, { headers: { "HX-Request": "true" } }).catch(() => null);
      if (!answer?.ok || !anchor.matches(":hover, :focus")) return;
      card ??= floating("po-hovercard");
      card.innerHTML = await answer.text();
      place(card, anchor);
    }, 400);
  };
  for (const type of ["mouseover", "focusin"]) document.addEventListener(type, ({ target }) => { showTip(target); showCard(target); });
  document.addEventListener("focusout", () => { hideTip(); hideCard(); });
  document.addEventListener("scroll", () => { hideTip(); hideCard(); }, { capture: true, passive: true });

  // -- Toasts and banners -----------------------------------------------------------------------------------
  const tend = (toast) => {
    const life = 6000;
    let timer;
    const start = () => { timer = setTimeout(() => toast.remove(), life); };
    const hold = () => clearTimeout(timer);
    const words = toast.parentElement.dataset;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "✕";
    close.setAttribute("aria-label", words.close);
    close.addEventListener("click", () => toast.remove());
    toast.append(close);
    for (const type of ["mouseenter", "focusin"]) toast.addEventListener(type, hold);
    for (const type of ["mouseleave", "focusout"]) toast.addEventListener(type, start);
    start();
  };
  const toast = (text, undo) => {
    const host = $("#po-toasts");
    if (!host) return;
    const box = document.createElement("div");
    const words = document.createElement("span");
    box.className = "po-toast";
    words.textContent = text;
    box.append(words);
    if (undo && new URL(undo, location.href).origin === location.origin) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = host.dataset.undo;
      button.addEventListener("click", () => { box.remove(); window.htmx?.ajax("POST", undo, { source: document.body, swap: "none" }); });
      box.append(button);
    }
    host.append(box);
    tend(box);
  };
  // A server's answer may carry `HX-Trigger: {"toast": {"text": "...", "undo": "/path"}}`.
  document.addEventListener("toast", ({ detail }) => toast(detail.text ?? detail.value, detail.undo));
  on("click", "[data-dismiss]", (_, button) => {
    const banner = button.closest(".po-banner");
    if (banner.dataset.banner) sessionStorage.setItem(`po-banner-${banner.dataset.banner}`, "1");
    banner.remove();
  });

  // -- Dialogs ----------------------------------------------------------------------------------------------
  on("click", "[data-dialog]", (_, button) => {
    closeMenus();
    const dialog = document.getElementById(button.dataset.dialog);
    dialog?.showModal();
    if (dialog) $$("[data-must-equal]", dialog).forEach((input) => input.dispatchEvent(new Event("input", { bubbles: true })));
  });
  on("click", "[data-close]", (_, button) => button.closest("dialog").close());
  on("input", "[data-must-equal]", (_, input) => {
    $("[type=submit]", input.form).disabled = input.value !== input.dataset.mustEqual;
  });
  // A button or link with data-confirm asks first; what it does then happens as if it had never been asked.
  const confirmed = new WeakSet();
  on("click", "[data-confirm]", (event, button) => {
    const dialog = $("#po-confirm");
    if (!dialog || confirmed.delete(button)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    closeMenus();
    const { confirm, confirmText, confirmVerb, confirmName, confirmDanger } = button.dataset;
    const [go, name] = [$("[value=yes]", dialog), $("input", dialog)];
    $("h2", dialog).textContent = confirm;
    $("p", dialog).textContent = confirmText ?? "";
    $("code", dialog).textContent = confirmName ?? "";
    go.textContent = confirmVerb || button.textContent;
    go.classList.toggle("po-btn-danger", confirmDanger !== undefined);
    name.closest("div").hidden = !confirmName;
    name.value = "";
    go.disabled = Boolean(confirmName);
    name.oninput = () => { go.disabled = name.value !== confirmName; };
    dialog.returnValue = "";
    dialog.onclose = () => {
      button.focus();
      if (dialog.returnValue === "yes") { confirmed.add(button); button.click(); }
    };
    dialog.showModal();
  }, { capture: true });

  // -- Copy, wrap, rows of lists and maps -------------------------------------------------------------------
  on("click", "[data-copy]", async (_, button) => {
    const text = button.dataset.copy || $$(".po-code-line", button.closest(".po-code")).map((line) => line.textContent).join("");
    await navigator.clipboard.writeText(text);
    toast(button.dataset.copied ?? text);
  });
  on("click", "[data-wrap]", (_, button) => button.setAttribute("aria-pressed", button.closest(".po-code").classList.toggle("is-wrapped")));
  const addRow = (rows, values = []) => {
    const row = $("template", rows).content.firstElementChild.cloneNode(true);
    $$("input", row).forEach((input, at) => { input.value = values[at] ?? ""; });
    rows.append(row);
    return row;
  };
  on("click", "[data-row-add]", (_, button) => $("input", addRow(button.previousElementSibling)).focus());
  on("click", "[data-row-remove]", (_, button) => {
    const [row, form] = [button.parentElement, button.form];
    (row.nextElementSibling ?? row.previousElementSibling)?.querySelector?.("input")?.focus();
    row.remove();
    form?.dispatchEvent(new Event("input", { bubbles: true }));
  });
  on("click", "[data-row-up], [data-row-down]", (_, button) => {
    const row = button.parentElement;
    const up = "rowUp" in button.dataset;
    const other = up ? row.previousElementSibling : row.nextElementSibling;
    if (other?.matches("div")) up ? other.before(row) : other.after(row);
    button.focus();
    button.form?.dispatchEvent(new Event("input", { bubbles: true }));
  });
  on("paste", "[data-map] input", (event, input) => {
    const pairs = event.clipboardData.getData("text").split(/\r?\n/).filter((line) => line.includes("="));
    if (!pairs.length) return;
    event.preventDefault();
    const rows = input.closest("[data-rows]");
    const row = input.parentElement;
    if ($$("input", row).every((one) => !one.value)) row.remove();
    for (const line of pairs) {
      const at = line.indexOf("=");
      addRow(rows, [line.slice(0, at).trim(), line.slice(at + 1).trim()]);
    }
    rows.dispatchEvent(new Event("input", { bubbles: true }));
  });

  // Several lines pasted into a row of a list are as many rows.
  on("paste", "[data-rows]:not([data-map]) input", (event, input) => {
    const lines = event.clipboardData.getData("text").split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
    if (lines.length < 2) return;
    event.preventDefault();
    const rows = input.closest("[data-rows]");
    if (!input.value) input.parentElement.remove();
    for (const line of lines) addRow(rows, [line]);
    rows.dispatchEvent(new Event("input", { bubbles: true }));
    $("input", rows.lastElementChild).focus();
  });

  // -- Forms with a save bar --------------------------------------------------------------------------------
  on("input", "form[data-dirty]", (_, form) => form.classList.add("is-dirty"));
  on("reset", "form[data-dirty]", (_, form) => form.classList.remove("is-dirty"));
  on("submit", "form[data-dirty]", (_, form) => form.classList.remove("is-dirty"));
  addEventListener("beforeunload", (event) => { if ($("form[data-dirty].is-dirty")) event.preventDefault(); });

  // -- Selecting rows of a table ----------------------------------------------------------------------------
  let lastBox;
  const boxes = (table) => $$("tbody .po-col-check input", table);
  const showSelection = (table) => {
    const all = boxes(table);
    const chosen = all.filter((box) => box.checked).length;
    const bar = $("[data-selection-bar]");
    const head = $("[data-select-all]", table);
    head.checked = chosen > 0 && chosen === all.length;
    head.indeterminate = chosen > 0 && chosen < all.length;
    if (!bar) return;
    bar.hidden = !chosen;
    const words = $("[data-selected]", bar);
    words.textContent = `${chosen} ${words.dataset.selected}`;
  };
  on("click", "table[data-select] tbody .po-col-check input", (event, box) => {
    const table = box.closest("table");
    const all = boxes(table);
    if (event.shiftKey && lastBox?.isConnected) {
      const [from, to] = [all.indexOf(lastBox), all.indexOf(box)].sort((a, b) => a - b);
      all.slice(Math.max(from, 0), to + 1).forEach((one) => { one.checked = box.checked; });
    }
    lastBox = box;
    showSelection(table);
  });
  on("change", "[data-select-all]", (_, head) => {
    const table = head.closest("table");
    boxes(table).forEach((box) => { box.checked = head.checked; });
    showSelection(table);
  });
  on("click", "[data-select-none]", () => $$("table[data-select]").forEach((table) => {
    boxes(table).forEach((box) => { box.checked = false; });
    showSelection(table);
  }));
  // With Alt, a facet's value is left out instead of chosen.
  on("click", "[data-alt-href]", (event, link) => {
    if (event.altKey) { event.preventDefault(); location.href = link.dataset.altHref; }
  });

  // -- Suggestions: an input with data-suggest --------------------------------------------------------------
  // The address answers ?q= with role="option" elements: links to go to, data-value texts that replace the last
  // word, or data-press, what to press elsewhere on the page. A late answer to an earlier question is dropped.
  const suggesting = new WeakMap();
  const suggestionsOf = (input) => {
    let state = suggesting.get(input);
    if (!state) {
      const list = document.createElement("div");
      list.className = "po-listbox";
      list.role = "listbox";
      list.tabIndex = -1; // or Tab stops at it, as it scrolls
      list.id = `po-options-${Math.random().toString(36).slice(2, 8)}`;
      list.setAttribute("aria-label", input.getAttribute("aria-label") ?? input.labels?.[0]?.textContent ?? "");
      list.hidden = true;
      const host = input.closest("form.po-search, form.po-query, .po-field") ?? input.parentElement;
      host.classList.add("po-suggests");
      host.append(list);
      input.role = "combobox";
      input.setAttribute("aria-autocomplete", "list");
      input.setAttribute("aria-controls", list.id);
      input.setAttribute("aria-expanded", "false");
      state = { list, timer: 0, asked: 0 };
      list.addEventListener("mousedown", (event) => event.preventDefault());
      list.addEventListener("click", (event) => {
        const option = event.target.closest("[role=option]");
        if (option) choose(input, option, event);
      });
      suggesting.set(input, state);
    }
    return state;
  };
  const options = (state) => $$("[role=option]", state.list);
  const closeList = (input) => {
    const state = suggesting.get(input);
    if (!state) return;
    state.asked++;
    clearTimeout(state.timer);
    state.list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const point = (input, state, at) => {
    const all = options(state);
    all.forEach((option, n) => {
      option.id ||= `${state.list.id}-${n}`;
      option.tabIndex = -1;
      option.setAttribute("aria-selected", n === at);
    });
    if (!all[at]) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", all[at].id);
    all[at].scrollIntoView({ block: "nearest" });
  };
  const choose = (input, option, event) => {
    if (option.matches("a[href]")) {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) open(option.href, "_blank", "noopener");
      else location.href = option.href;
      return;
    }
    event.preventDefault();
    if (option.dataset.press) {
      // What stands elsewhere on the page is pressed there; the focus goes back to where it came from.
      const { before } = suggesting.get(input);
      input.value = "";
      closeList(input);
      input.blur();
      if (before?.isConnected) before.focus();
      return $(option.dataset.press)?.click();
    }
    const value = option.dataset.value ?? option.textContent.trim();
    const whole = input.closest(".po-field");
    input.value = whole ? value : input.value.replace(/\S*$/, "") + value;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    closeList(input);
    // A field's name ends in a colon and wants its value next; anything else is a finished term.
    if (!whole) value.endsWith(":") ? suggest(input) : input.form?.requestSubmit();
  };
  const suggest = (input) => {
    const state = suggestionsOf(input);
    clearTimeout(state.timer);
    const asked = ++state.asked;
    state.timer = setTimeout(async () => {
      const url = new URL(input.dataset.suggest, location.href);
      url.searchParams.set("q", input.value);
      for (const box of $$("input[type=hidden][name=q]", input.form ?? undefined)) url.searchParams.append("with", box.value);
      const answer = await fetch(url, { headers: { "HX-Request": "true" } }).catch(() => null);
      if (!answer?.ok || asked !== state.asked) return;
      const html = await answer.text();
      if (asked !== state.asked || document.activeElement !== input) return;
      state.list.innerHTML = html;
      for (const option of $$("[data-press]", state.list)) if (!$(option.dataset.press)) option.remove();
      for (const group of $$("[role=group]", state.list)) if (!$("[role=option]", group)) group.remove();
      const any = options(state).length > 0;
      state.list.hidden = !any;
      input.setAttribute("aria-expanded", any);
      point(input, state, -1);
    }, 80);
  };
  on("input", "input[data-suggest]", (_, input) => suggest(input));
  on("focusin", "input[data-suggest]", (_, input) => { if (!input.value) suggest(input); });
  on("focusout", "input[data-suggest]", (_, input) => closeList(input));
  on("keydown", "input[data-suggest]", (event, input) => {
    const state = suggestionsOf(input);
    const all = options(state);
    const at = all.findIndex((option) => option.getAttribute("aria-selected") === "true");
    const shown = !state.list.hidden;
    if (event.key === "Escape") {
      event.stopPropagation();
      if (shown) { event.preventDefault(); closeList(input); }
      else if (input.closest(".po-field")) closeList(input);  // a field of a form keeps what is typed, and the focus
      else { input.blur(); state.before?.focus?.(); }
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!shown) return suggest(input);
      point(input, state, event.key === "ArrowDown" ? (at + 1) % all.length : (at <= 0 ? all.length : at) - 1);
    } else if (event.key === "Enter" && shown && all[at]) choose(input, all[at], event);
    else if (event.key === "Backspace" && !input.value) {
      const last = $$(".po-token a", input.form ?? undefined).at(-1);
      if (last) { event.preventDefault(); location.href = last.href; }
    }
  });

  // -- Query box: one `q` in the address, and the query as text one click away ------------------------------
  const wholeQuery = (form) => $$("[name=q]", form).map((input) => input.value.trim()).filter(Boolean).join(" ");
  const asText = (form, text) => {
    $$(".po-token", form).forEach((token) => token.remove());
    $("input[type=search]", form).value = text;
  };
  on("submit", "form[data-query]", (_, form) => asText(form, wholeQuery(form)));
  on("click", "[data-query-text]", (_, button) => {
    const form = button.form;
    asText(form, wholeQuery(form));
    button.remove();
    $("input[type=search]", form).focus();
  });

  // -- Keyboard ---------------------------------------------------------------------------------------------
  const places = { h: "/", c: "/catalog", a: "/activity", p: "/problems", g: "/graph" };
  let going = 0;
  const rows = () => $$(".po-table tbody tr, [data-row]").filter((row) => row.offsetParent);
  const move = (step) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.matches(".is-current"));
    all[at]?.classList.remove("is-current");
    const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
    next.classList.add("is-current");
    next.scrollIntoView({ block: "nearest" });
    $(".po-name a, a", next)?.focus({ preventScroll: true });
  };
  const letters = {
    "/": () => ($(".po-query input[type=search]") ?? $("#po-search"))?.focus(),
    "?": () => $("#po-keys")?.showModal(),
    "[": toggleRail,
    g: () => { going = Date.now(); },
    j: () => move(1),
    k: () => move(-1),
    x: () => $(".is-current .po-col-check input")?.click(),
  };
  const press = (button) => {
    if (!button.closest(".po-menu:not([open])") || button.matches("summary")) button.focus();
    button.click();
  };
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
      const search = $("#po-search");
      if (!search) return;
      event.preventDefault();
      if (document.activeElement !== search) suggestionsOf(search).before = document.activeElement;
      search.focus();
      return search.select();
    }
    if (event.key === "Escape") {
      drawer(false);
      hideTip();
      hideCard();
      // A menu that was opened by a letter, or that the focus has left, closes too.
      const menu = $("details.po-menu[open]");
      if (menu) { menu.open = false; $("summary", menu).focus(); }
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target) || root.dataset.keys === "off" || $("dialog[open]")) return;
    if (event.target.closest("svg[data-roving]")) return;
    if (Date.now() - going < 1500 && places[event.key]) {
      event.preventDefault();
      location.href = places[event.key];
      return;
    }
    going = 0;
    const act = letters[event.key] ?? (/^[cef]$/.test(event.key) && $(`[data-key="${event.key}"]`) && (() => press($(`[data-key="${event.key}"]`))));
    if (!act) return;
    event.preventDefault();
    act();
  });
  // One bar of a chart is in the tab order; arrows walk along the others.
  on("keydown", "svg[data-roving]", (event, chart) => {
    const bars = $$("g[tabindex]", chart);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step && bars[bars.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    bars.forEach((bar) => bar.setAttribute("tabindex", bar === next ? "0" : "-1"));
    next.focus();
  });

  // -- Forms ----------------------------------------------------------------------------------------------
  // A form is sent once, however often its button is pressed: what it asks for may take a while.
  let sent;
  const release = () => {
    sent?.form.removeAttribute("aria-busy");
    sent?.button?.removeAttribute("aria-disabled");
    sent = undefined;
  };
  document.addEventListener("submit", (event) => {
    const { target: form, submitter: button } = event;
    if (event.defaultPrevented || form.method !== "post") return;
    if (sent?.form === form) return event.preventDefault();
    release();
    sent = { form, button };
    form.setAttribute("aria-busy", "true");
    button?.setAttribute("aria-disabled", "true");
    setTimeout((one) => one === sent && release(), 15_000, sent);
  });
  // Whoever stops it, types something else or comes back may send it again.
  document.addEventListener("keydown", ({ key }) => key === "Escape" && release());
  on("input", "form[aria-busy]", release);
  addEventListener("pageshow", release);

  // -- Focus that stays where it was ------------------------------------------------------------------------
  // A link with data-stay opens the same page in another state; pressed by a key, it has the focus there again.
  on("click", "a[data-stay]", (event, link) => {
    if (event.detail || event.ctrlKey || event.metaKey) return;
    sessionStorage.setItem("po-stay", JSON.stringify([new URL(link.href).pathname, link.dataset.stay]));
  });
  // So has a button, while there is no htmx.
  document.addEventListener("submit", (event) => {
    const id = event.submitter?.dataset.stay;
    if (id && !event.defaultPrevented) sessionStorage.setItem("po-stay", JSON.stringify([location.pathname, id]));
  });
  const stay = () => {
    const [path, id] = JSON.parse(sessionStorage.getItem("po-stay") ?? "[]");
    sessionStorage.removeItem("po-stay");
    if (path !== location.pathname) return;
    const at = (name) => $$("[data-stay]").find((one) => one.dataset.stay === name);
    (at(id) ?? at({ next: "previous", previous: "next" }[id]))?.focus();
  };
  // What is replaced by what a press of a key asked for gives its focus to what came instead.
  let left;
  document.addEventListener("htmx:before:swap", () => {
    const part = document.activeElement?.closest(".po-older, .po-card[id]");
    if (part) left = { part, before: part.previousElementSibling };
  });
  const goOn = () => {
    if (!left || left.part.isConnected) return;
    const instead = document.getElementById(left.part.id) ?? left.before?.nextElementSibling;
    left = undefined;
    if (document.activeElement === document.body) $("a[href], button, [tabindex='0']", instead ?? document.body)?.focus();
  };

  // -- What came with the page ------------------------------------------------------------------------------
  const start = () => {
    $$(".po-toast").forEach(tend);
    $$("[data-banner]").forEach((banner) => { if (sessionStorage.getItem(`po-banner-${banner.dataset.banner}`)) banner.remove(); });
    $$("table[data-select]").forEach(showSelection);
    // Where tabs or segments are scrolled, the chosen one is in sight.
    for (const chosen of $$(".po-tabs [aria-current], nav.po-segments [aria-current]")) {
      const row = chosen.parentElement;
      row.scrollLeft = chosen.offsetLeft - row.offsetLeft - (row.clientWidth - chosen.offsetWidth) / 2;
    }
    stay();
    $("[data-focus]")?.focus();
  };
  start();
  addEventListener("pageshow", (event) => { if (event.persisted) $$("table[data-select]").forEach(showSelection); });
  document.addEventListener("htmx:after:swap", () => { goOn(); hideTip(); hideCard(); $$("table[data-select]").forEach(showSelection); });
  window.portico = { toast };
})();
