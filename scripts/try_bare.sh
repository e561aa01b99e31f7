#!/usr/bin/env bash
# Tries the two commands where nothing is installed: a fresh Debian 12 with git, in a folder, by chroot.
#   scripts/try_bare.sh [--user] COMMAND…    e.g. scripts/try_bare.sh scripts/run.sh "What is the capital of Norway?"
# Needs root and debootstrap. The system gets a clone of the last commit; mirror, proxies and certificates are
# those that this machine's apt and environment name. --user runs COMMAND as a user with sudo instead of as root.
# The bare system is kept in build/bare and copied for each try; the copy is removed afterwards.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

user=root
if [[ ${1:-} == --user ]]; then
  user=newcomer
  shift
fi
(($#)) || die 'try_bare.sh: give it a command, such as scripts/test.sh'
((EUID == 0)) || die 'try_bare.sh: chroot needs root'
command -v debootstrap >/dev/null || die 'try_bare.sh: apt-get install debootstrap first'

sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  grep -E ' bookworm(-updates|-security)? ') || die "try_bare.sh: this machine's apt has no bookworm"
mirror=$(awk '$3 == "bookworm" { print $2; exit }' <<<"$sources")

if [[ ! -e build/bare/etc/debian_version ]]; then
  say 'making a bare Debian 12 in build/bare'
  rm -rf build/bare build/bare.part
  quietly build/logs/debootstrap.log debootstrap --variant=minbase --include=git bookworm build/bare.part "$mirror"
  mv build/bare.part build/bare
fi

root=$(mktemp -d --tmpdir mxgpt-bare.XXXXXX)
remove_root() {
  # Never reach through a mount that is still there.
  umount "$root/proc" "$root/dev" 2>/dev/null || true
  mountpoint -q "$root/proc" || mountpoint -q "$root/dev" || rm -rf --one-file-system "$root"
}
trap remove_root EXIT

say "copying it to $root"
cp -a build/bare/. "$root"
printf '%s\n' "$sources" >"$root/etc/apt/sources.list"
apt-config dump | grep -iE '^Acquire::(.*proxy|Check-)' >"$root/etc/apt/apt.conf.d/90host" || true
cp /etc/resolv.conf /etc/hosts "$root/etc/"
for certificates in /usr/local/share/ca-certificates /etc/ssl/certs; do
  [[ ! -d $certificates ]] || { mkdir -p "$root$certificates" && cp -rL "$certificates/." "$root$certificates"; }
done
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"

home=/root
if [[ $user != root ]]; then
  home=/home/$user
  quietly build/logs/bare-user.log chroot "$root" sh -c "apt-get update && apt-get -y install --no-install-recommends sudo &&
    useradd --create-home $user && echo '$user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/$user"
fi
# Not by hard links: the owner of the clone is changed below.
git clone -q --no-hardlinks . "$root$home/mxgpt"
chroot "$root" chown -R "$user:" "$home/mxgpt"

environment=(HOME="$home" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
[[ -z ${TERM:-} ]] || environment+=(TERM="$TERM")
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_CERT PIP_DEFAULT_TIMEOUT SSL_CERT_FILE; do
  [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done
say "as $user in the bare system: $*"
chroot --userspec="$user:$user" "$root" env -i "${environment[@]}" sh -c "cd $home/mxgpt && exec \"\$@\"" sh "$@"
