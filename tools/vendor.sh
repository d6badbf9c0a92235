#!/usr/bin/env bash
# Refresh assets/vendor (MathJax, Mermaid and their licences) from the versions in package-lock.json.
# Needs Node and npm; building the book does not.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/assets/vendor
work=$(mktemp -d "$root/.vendor.XXXXXX")
trap 'rm -rf "$work"' EXIT

cp "$root/package.json" "$root/package-lock.json" "$work/"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund)
modules=$work/node_modules
new=$work/vendor
mkdir -p "$new/mathjax/output/chtml/fonts" "$new/mathjax/input/tex" "$new/mermaid/chunks"

cp "$modules"/mathjax/{LICENSE,es5/tex-chtml.js} "$new/mathjax/"
cp -r "$modules/mathjax/es5/output/chtml/fonts/woff-v2" "$new/mathjax/output/chtml/fonts/"
cp -r "$modules/mathjax/es5/input/tex/extensions" "$new/mathjax/input/tex/"
cp "$modules"/mermaid/{LICENSE,dist/mermaid.esm.min.mjs} "$new/mermaid/"
cp -r "$modules/mermaid/dist/chunks/mermaid.esm.min" "$new/mermaid/chunks/"
find "$new" -name '*.map' -delete

# Mermaid's bundle contains its dependencies: their notices travel with it.
(
  cd "$modules"
  find . -type f -iname 'licen[sc]e*' ! -path './mathjax/*' ! -path './mermaid/*' | LC_ALL=C sort |
    while read -r file; do printf '\n==== %s\n\n' "${file#./}"; tr -d '\r' < "$file"; done
) > "$new/mermaid/LICENSES-bundled.txt"

rm -rf "$target"
mv "$new" "$target"
du -sh "$target"
