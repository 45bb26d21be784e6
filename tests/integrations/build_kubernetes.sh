# Builds kube-apiserver and kube-controller-manager 1.20 from Debian's source package into the folder $1: ten minutes.
# Needs Debian 12 with etcd-server golang-go golang-github-modern-go-reflect2-dev jq rsync make dpkg-dev.
set -eu
home=$1
work=$home/build
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/tmp"
cd "$work"
sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >debian.sources
options="-o Dir::Etc::sourcelist=$work/debian.sources -o Dir::Etc::sourceparts=/dev/null"
options="$options -o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User=$(id -un)"
apt-get $options update
apt-get $options source --download-only kubernetes
dpkg-source -x kubernetes_1.20*.dsc source
cd source
# The release that is packed with it crashes under Go 1.19 at the first custom resource.
rm -r vendor/github.com/modern-go/reflect2
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
cat >"$work/version" <<END
KUBE_GIT_COMMIT=unknown
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v1.20.2
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=20
END
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
export GOPATH="$PWD/.go" PATH="/usr/lib/go/bin:$PATH" CGO_ENABLED=0 GOFLAGS=-mod=vendor
export KUBE_GIT_VERSION_FILE="$work/version" GOCACHE="$work/go" TMPDIR="$work/tmp"
cd .go/src/k8s.io/kubernetes
make WHAT="cmd/kube-apiserver cmd/kube-controller-manager"
cp _output/local/bin/linux/amd64/kube-apiserver _output/local/bin/linux/amd64/kube-controller-manager "$home"
cd "$home"
rm -rf "$work"
touch "$home/installed"
