// What the tests look at on a page; every tab gets it as `look`.
window.look = (() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const content = () => document.querySelector('.bd-article') ?? document.querySelector('main');

  const counts = () => ({
    formulas: all('.math').length, drawn: all('mjx-container').length, refused: all('mjx-merror').length,
    diagrams: all('.mermaid').length, svgs: all('.mermaid svg').length,
    code: all('.cell_input .highlight pre').length, copy: all('.cell_input .highlight button.copybtn').length,
  });

  // What sticks out of the window although no box around it scrolls; a page that clips hides it from scrollWidth.
  const escaped = () => {
    const page = document.documentElement, article = content();
    const scrolls = e => e !== article
      && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const out = all('*', article).filter(e => e.getBoundingClientRect().right > page.clientWidth + 1
      && !e.closest('mjx-assistive-mml, .visually-hidden, svg') && !scrolls(e));
    const excess = page.scrollWidth - page.clientWidth;
    return [...(excess > 0 ? [`the page is ${excess} px too wide`] : []),
      ...out.slice(0, 5).map(e => `${e.tagName.toLowerCase()}.${e.className}: ${e.textContent.trim().slice(0, 40)}`)];
  };

  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + .05) / (dark + .05);
  };

  // Of each diagram: px of its smallest text, least contrast of a text to its box, px that need scrolling.
  const diagrams = () => all('.mermaid svg').map(svg => {
    const box = svg.closest('.mermaid'), scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const labels = all('.node', svg).map(node => {
      const label = getComputedStyle(node.querySelector('.nodeLabel p, .nodeLabel, text'));
      const shape = getComputedStyle(node.querySelector('rect, polygon, circle, path'));
      return {size: parseFloat(label.fontSize) * scale, contrast: contrast(label.color, shape.fill)};
    });
    return {text: svg.textContent.slice(-30), scroll: box.scrollWidth - box.clientWidth,
      size: Math.min(...labels.map(l => l.size)), contrast: Math.min(...labels.map(l => l.contrast))};
  });

  // Text and tips of the page's furniture; titles of pages and sections, which authors write, left out.
  const FRAMES = '.bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .bd-header, .prev-next-footer,'
    + '.prev-next-area, .bd-footer, .bd-footer-content, #search-results, dialog';
  const AUTHORS = '.bd-links, .bd-sidebar-secondary .nav-link, .prev-next-title, .navbar-brand, .search li > a, .search .context,'
    + 'script, style, noscript';
  const TIPS = ['title', 'aria-label', 'placeholder', 'data-bs-title', 'data-bs-original-title', 'data-tooltip', 'alt',
    'data-toggle-hint-show', 'data-toggle-hint-hide'];
  const furniture = () => {
    const texts = [];
    for (const frame of all(FRAMES)) {
      const walker = document.createTreeWalker(frame, NodeFilter.SHOW_TEXT);
      while (walker.nextNode())
        if (!walker.currentNode.parentElement.closest(AUTHORS)) texts.push(walker.currentNode.textContent);
    }
    for (const e of all('body *'))
      if (!e.closest('svg, mjx-container') && !e.matches('.bd-article img, .bd-article audio, .bd-article a.reference, span.eqno a'))
        TIPS.forEach(name => texts.push(e.getAttribute(name) ?? ''));
    return [...new Set(texts.map(t => t.trim().replace(/\s+/g, ' ')).filter(t => t))];
  };

  // The page's text without code and formulas.
  const prose = () => {
    const article = content().cloneNode(true);
    all('pre, code, script, style, .math, mjx-container', article).forEach(e => e.remove());
    return article.textContent.replace(/\s+/g, ' ');
  };

  const pictures = () => all('.bd-article img').map(
    e => ({src: e.getAttribute('src'), alt: e.alt, drawn: e.complete && e.naturalWidth > 0}));

  return {counts, escaped, diagrams, furniture, prose, pictures};
})();
