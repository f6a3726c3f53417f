# Completion of plakarctl(8) and plakard(8) for bash:
# /usr/share/bash-completion/completions/plakarctl, with a link to it named plakard.
# shellcheck shell=bash disable=SC2207 # one word per completion is what is wanted

# Options of each command; those that take an argument end in '='.
# from the table of commands: npm run completions
declare -gA _plakarctl_options=(
	[create]='-no-encryption'
	[push]='-tag= -exclude= -one-filesystem'
	[ls]='-R -tag= -source='
	[cat]=''
	[pull]='-to= -overwrite'
	[tarball]='-o='
	[check]='-fast -sample='
	[rm]=''
	[keep]='-n -tag= -source= -keep-tag='
	[repair]='-n -accept -remove'
	[cleanup]='-n -reseal'
	[clone]='-n'
	[sync]='-n -tag= -source= -since='
	[key]='-label= -passphrase-file= -key-file= -force -revoke'
	[find]=''
	[diff]=''
	[checksum]=''
	[info]=''
	[shell]=''
	[status]=''
	[monitor]=''
	[metrics]=''
	[log]=''
	[trace]='-process='
	[pause]=''
	[resume]=''
	[reload]=''
	[stop]=''
	[help]=''
	[version]=''
)
_plakarctl_inside=' cat check checksum diff find ls pull rm tarball '
# end of the table

# Where COMMAND is among the words, as its index; past the end where there is none.
_plakarctl_command() {
	local i=1
	while ((i < COMP_CWORD)); do
		case ${COMP_WORDS[i]} in
		on | -*s) ((i += 2)) ;;
		-*) ((i += 1)) ;;
		*) break ;;
		esac
	done
	echo "$i"
}

# Runs plakarctl on the daemon that the line names; silent where there is none.
_plakarctl_ask() {
	local socket=() i
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -*s ]] && socket=(-s "${COMP_WORDS[i + 1]}")
	done
	"${COMP_WORDS[0]}" -q "${socket[@]}" "$@" 2>/dev/null
}

_plakarctl_snapshots() {
	local identifier='[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
	echo latest
	_plakarctl_ask ls | grep -Eo "$identifier"
}

_plakarctl() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} at command
	COMPREPLY=()
	at=$(_plakarctl_command)
	if ((COMP_CWORD <= at)); then
		case $previous in
		-*s) COMPREPLY=($(compgen -f -- "$current")) ;;
		on) ;;
		*) COMPREPLY=($(compgen -W "-j -q -v -s on ${!_plakarctl_options[*]}" -- "$current")) ;;
		esac
		return
	fi
	command=${COMP_WORDS[at]}
	case $previous in
	-to | --to) COMPREPLY=($(compgen -d -- "$current")) && return ;;
	-o | --o) COMPREPLY=($(compgen -f -- "$current")) && return ;;
	-tag | --tag) return ;;
	esac
	if [[ $current == -* ]]; then
		local options=${_plakarctl_options[$command]-}
		COMPREPLY=($(compgen -W "${options//=/}" -- "$current"))
		return
	fi
	if [[ $_plakarctl_inside == *" $command "* ]]; then
		COMPREPLY=($(compgen -W "$(_plakarctl_snapshots)" -- "$current"))
	elif [[ $command == push ]]; then
		COMPREPLY=($(compgen -f -- "$current"))
	fi
}

_plakard() {
	local current=${COMP_WORDS[COMP_CWORD]}
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	-*f) COMPREPLY=($(compgen -f -- "$current")) ;;
	-*D) COMPREPLY=() ;;
	*) COMPREPLY=($(compgen -W '-d -n -v -D -f' -- "$current")) ;;
	esac
}

complete -o filenames -F _plakarctl plakarctl
complete -o filenames -F _plakard plakard
