# Completion of plakarctl(8) for fish: /usr/share/fish/vendor_completions.d/plakarctl.fish

function __plakarctl_snapshots
    echo latest
    plakarctl -q ls 2>/dev/null | string match -r '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
end

set -l commands create push ls cat pull tarball check rm keep cleanup find diff info checksum clone sync shell status monitor log trace pause resume reload stop
set -l inside ls cat pull tarball check rm find diff info checksum

complete -c plakarctl -s j -d 'One JSON object per line'
complete -c plakarctl -s q -d 'Only errors'
complete -c plakarctl -s v -d 'Say more'
complete -c plakarctl -s s -r -F -d 'Control socket'
complete -c plakarctl -f -n "not __fish_seen_subcommand_from $commands" -a "on $commands"
complete -c plakarctl -f -n "__fish_seen_subcommand_from $inside" -a '(__plakarctl_snapshots)'
complete -c plakarctl -n '__fish_seen_subcommand_from pull' -o to -r -a '(__fish_complete_directories)' -d 'Directory to restore into'
complete -c plakarctl -n '__fish_seen_subcommand_from push' -o tag -r -d 'Tag of the snapshot'
complete -c plakarctl -n '__fish_seen_subcommand_from tarball' -o o -r -F -d 'File to write'
complete -c plakarctl -n '__fish_seen_subcommand_from check' -o fast -d 'Only that everything exists'
complete -c plakarctl -n '__fish_seen_subcommand_from keep' -o n -d 'Only say what would be removed'
complete -c plakarctl -f -n '__fish_seen_subcommand_from log' -a 'brief verbose'
