#!/bin/sh
# Install effml from this folder on Linux or macOS, without a network and without an administrator.
# sh install.sh [--to FOLDER] [--dry-run] [--no-start]; PYTHON=... picks the Python.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 1
has=$(for file in "$here"/requirements/*.txt; do name=${file##*-}; printf '%s ' "${name%.txt}"; done)
old=
for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    command -v "$python" >/dev/null 2>&1 || continue
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case " $has" in
        *" $version "*) exec "$python" "$here/install.py" "$@" ;;
        *) old="$old $python is Python $version;" ;;
    esac
done
echo "install.sh: no Python that this kit has packages for ($has). Found:${old:- none}" >&2
echo "Install one of these from the folder python of this kit, or from https://www.python.org/downloads" >&2
echo "(on Linux: python3 of your distribution), then start this again. PYTHON=/path/to/python picks one." >&2
exit 1
