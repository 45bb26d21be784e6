# Sourced by bin/up, bin/manage and bin/test, which set $here: finds a Python and hands over to it.

launch() {
    # What a caller has closed would be given to the next file that is opened.
    (: 3<&0) 2>/dev/null || exec </dev/null
    (: 3>&1) 2>/dev/null || exec >/dev/null
    (: 3>&2) || exec 2>/dev/null
    unset PYTHONHOME PYTHONPATH
    export PYTHONUTF8=1 PYTHONNOUSERSITE=1
    seen=
    for python in python3.14 python3.13 python3.12 python3.11 python3; do
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $version in
            3.11 | 3.12 | 3.13 | 3.14)
                program=$1
                shift
                exec "$python" "$here/_$program.py" "$@"
                ;;
        esac
        seen=" (found: Python $version)"
    done
    echo "Portico needs Python 3.11, 3.12, 3.13 or 3.14, and none of them is on the PATH$seen." \
        "Install one, for example with: apt install python3 python3-venv" >&2
    exit 1
}
